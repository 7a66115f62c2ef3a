// Package http1 serves HTTP/1.1 and HTTP/1.0 (RFC 9112) to callers who send a small
// request and wait for a small answer. net/http reads the requests, but for those of the
// usual form, of which nothing is in doubt; the loop around that is this package's, as
// net/http's own takes a third of what an event costs the daemon: a second goroutine for
// each request that waits for a hang-up, and buffers, contexts and deadlines that such
// callers do not need.
//
// It is net/http for its callers, which a fuzz test holds it to. For its handlers it
// is less: an answer is one status, its headers and a body, and it is sent when the
// handler returns.
package http1
