package target

import (
	"fmt"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/hookline/hookline/plugins/transport"
)

const maxHeaders = 64 // of a transform

// HeaderCount refuses a message with more headers than a transform may set.
func HeaderCount(m *transport.Message) error {
	if len(m.Headers) > maxHeaders {
		return fmt.Errorf("the transform set %d headers; %d are allowed", len(m.Headers), maxHeaders)
	}
	return nil
}

// HeaderName refuses what is not the name of a header in HTTP, in mail and in what is
// written like them.
func HeaderName(name string) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("the transform set a header whose name is not a header name: %.40q", name)
	}
	return nil
}

// HeaderValue refuses a value that could end the line or be changed on the way.
func HeaderValue(name, value string) error {
	if !httpguts.ValidHeaderFieldValue(value) || strings.Trim(value, " \t") != value {
		return fmt.Errorf("header %s has a control character, or a space at an end, in its value", name)
	}
	return nil
}
