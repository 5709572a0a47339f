// Package ipam decides which Service gets which address, and why.
//
// Assign is a pure function of the configuration, of what Services ask for and hold, of what was lately given back, and
// of the time. It knows no API server and no clock; who reads and writes the objects is package controller.
//
// Held addresses come first: whatever other Services, pools or restarts do, an address leaves its Service only when that
// Service changes what it asks for. An address that its holder gives up in one call is free in the next, when the API
// server has seen it go: no address has two holders even if the controller dies in between.
package ipam
