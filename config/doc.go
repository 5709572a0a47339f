// Package config says what users' objects mean: it turns Kubernetes objects into plain values and everything wrong with
// them into Problems.
//
// It is pure: it reads no clock, no network and no API server, and is the only reader of Fairlead's annotations. Which
// Service gets which address is decided in controller/ipam, which node announces it in speaker/elect. Beside the code
// lie the manifests it belongs to: crd/ (embedded here), rbac/, default/, samples/.
package config
