package transforms

import _ "embed"

// Types are the types of what a script gets and gives, in TypeScript.
//
//go:embed hookline.d.ts
var Types string
