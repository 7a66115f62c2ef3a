//go:build race

package transforms

// raceDetector: this build has it, and needs many times the memory.
const raceDetector = true
