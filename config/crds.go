package config

import "embed"

// CRDs holds the custom resource definitions as controller-gen wrote them, one file per kind, under "crd/".
//
//go:embed crd/*.yaml
var CRDs embed.FS
