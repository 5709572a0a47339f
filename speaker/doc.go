// Command speaker makes a node answer for the addresses of Services. One runs on
// every node; it announces addresses on the network by ARP and NDP, and programs
// nftables so that traffic to Services reaches a pod.
//
// It is two loops over one world: forwarding (whose cost follows the change) and
// announcing (which recomputes everything). Both read the cache of Kubernetes objects,
// decide with pure functions, and give whole wishes to the rooms that touch the
// node: nft, l2, members, health. What was reached goes to the node's Speaker object.
//
// It writes its own Speaker object and nothing else in the API. Out of scope:
// giving addresses (controller), the pod network (the cluster's network plugin).
package main
