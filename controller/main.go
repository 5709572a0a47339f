// Command controller gives every Service of type LoadBalancer an address from an IPAddressPool and says why.
package main

func main() {}
