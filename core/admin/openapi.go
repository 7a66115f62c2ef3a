package admin

import (
	_ "embed" // the document
	"net/http"
)

// openAPIText describes the API, as OpenAPI 3.1. It is written by hand; a test holds
// it against the endpoints, the views and real answers.
//
//go:embed openapi.json
var openAPIText []byte

func (a *api) openAPI(r *http.Request) (any, error) {
	if _, err := query(r, nil); err != nil {
		return nil, err
	}
	return document{mediaJSON, openAPIText}, nil
}
