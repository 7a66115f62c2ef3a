package main

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page and its style
	"encoding/base64"
	"fmt"
	"html/template"
	"time"

	"github.com/hookline/hookline/core/admin"
)

var (
	//go:embed explain.html
	explainPage string
	//go:embed explain.css
	explainStyle string
)

// maxOnPage is how much of one content the page gets: more would make a browser
// slow, and nobody reads it on paper.
const maxOnPage = 64 << 10

var explainTemplate = template.Must(template.New("explain").Funcs(template.FuncMap{
	"display":       func(c admin.Content) shown { return display(c, maxOnPage) },
	"stamp":         func(t admin.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") },
	"stateAndCode":  func(d *admin.ExplainedDelivery) string { return stateAndCode(&d.Delivery) },
	"of":            func(e *admin.Explanation, d admin.ExplainedDelivery) ofEvent { return ofEvent{e, &d} },
	"eventFacts":    eventFacts,
	"deliveryFacts": deliveryFacts,
	"readNote":      readNote,
	"logged":        logged,
	"sentNote":      sentNote,
	"addressing":    addressing,
	"replied":       replied,
	"measure":       measure,
	"unmatched":     unmatched,
	"inForce":       inForce,
	"inPackage":     inPackage,
}).Parse(explainPage))

// ofEvent is a delivery with the event that it is of.
type ofEvent struct {
	Event    *admin.Explanation
	Delivery *admin.ExplainedDelivery
}

// explainHTML makes a page that needs nothing else, runs nothing and loads nothing.
func explainHTML(x *explained, now time.Time, version string) ([]byte, error) {
	sum := sha256.Sum256([]byte(explainStyle))
	title := "What happened to record " + x.Events[0].TransID
	if len(x.Events) == 1 {
		title = "What happened to event " + x.Events[0].Ref
	}
	page := struct {
		Title, Policy, Version, More string
		Style                        template.CSS
		At                           admin.Time
		Events                       []*admin.Explanation
		Configurations               []admin.Configuration
		Scripts                      []admin.Script
	}{
		Title:  title,
		Policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'",
		Style:  template.CSS(explainStyle), At: admin.Time{Time: now}, Version: version,
		Events: x.Events, Configurations: configurations(x), Scripts: sources(x),
	}
	if x.More {
		page.More = moreEvents
	}
	var b bytes.Buffer
	if err := explainTemplate.Execute(&b, page); err != nil {
		return nil, fmt.Errorf("the page: %w", err)
	}
	// Whatever cannot be seen stands in contents, and could turn the text around it.
	return []byte(readable(b.String())), nil
}
