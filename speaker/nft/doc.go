// Package nft is the kernel's forwarding table: the values that stand for it,
// the plan that leads from one state to another, and the netlink code that
// applies it and reads it back.
//
// It owns the tables "ip fairlead" and "ip6 fairlead" and touches no other. The number of chains
// and sets is constant, a Service is elements only (layout.go).
// It also deletes conntrack entries of UDP and SCTP connections that lead to
// endpoints that are gone, and those of TCP that nobody has answered; answered ones are never touched.
//
// Out of scope: Kubernetes objects and what they mean (room forward), sysctls
// that the network plugin owns.
package nft
