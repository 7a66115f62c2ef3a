//go:build !race

package transforms

const raceDetector = false
