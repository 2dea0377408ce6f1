package api

// Taken returns how many connections are taken over from net/http.
func (s *Server) Taken() int64 { return s.taken.Load() }
