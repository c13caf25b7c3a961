package drive

// Waiting is how many events wait in the inbox.
func Waiting(h *Host) int { return len(h.inbox) }
