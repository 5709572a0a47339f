// Package routers holds the manual's pages on the other end of a session, and the routers'
// configurations as files: those the pages show, and those the lab's routers load. That
// real routers understand them is tested where the sessions are.
package routers

import _ "embed"

// FRR and BIRD are the configurations of the manual's routers, as their programs read them.
var (
	//go:embed frr.conf
	FRR string
	//go:embed bird.conf
	BIRD string
)
