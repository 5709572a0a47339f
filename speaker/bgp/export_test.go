package bgp

// Poke ends the pause of every session between two attempts.
func (r *Room) Poke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		s.rouse()
	}
}
