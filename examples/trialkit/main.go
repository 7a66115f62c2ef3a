// Command trialkit is a stand-in for TrialKit's API, to try enrichment with:
//
//	go run ./examples/trialkit
//
// It gives the records in examples/trialkit/records. To see what Hookline makes of an
// API that fails:
//
//	curl -X POST 'http://127.0.0.1:8099/fault?is=other-study'
//	curl -X POST 'http://127.0.0.1:8099/fault?is='
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hookline/hookline/examples/trialkit/standin"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("trialkit", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8099", "`address` to listen on")
	dir := flags.String("dir", "examples/trialkit", "`folder` with records/, api-password and access-key")
	fault := flags.String("fault", "", fmt.Sprintf("what is wrong with it, one of %s", standin.Faults))
	if flags.Parse(args) != nil {
		return 2
	}
	api := &standin.API{
		Email: "api@example.org", Header: "From-Access-Key", Records: os.DirFS(filepath.Join(*dir, "records")),
		Log: func(what string, status int) { fmt.Println(time.Now().Format(time.TimeOnly), what, status) },
	}
	for name, out := range map[string]*string{"api-password": &api.Password, "access-key": &api.AccessKey} {
		text, err := os.ReadFile(filepath.Join(*dir, name))
		if err != nil {
			fmt.Fprintln(os.Stderr, "trialkit: start it in Hookline's folder, or name the folder with -dir:", err)
			return 1
		}
		*out = strings.TrimSpace(string(text))
	}
	api.Fail(standin.Fault(*fault))
	fmt.Printf("TrialKit's API, a stand-in: http://%s/form/7/435\n", *listen)
	server := http.Server{Addr: *listen, Handler: api, ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintln(os.Stderr, "trialkit:", server.ListenAndServe())
	return 1
}
