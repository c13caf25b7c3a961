//go:build !omit_gateway

package main

import "net/http"

func (s *station) apiChannels(w http.ResponseWriter, r *http.Request) {
	v, err := local{s}.summary(r.Context())
	answer(w, v, err)
}

func (s *station) apiOpenChannel(w http.ResponseWriter, r *http.Request) {
	v, err := local{s}.open(r.Context(), channelOrder{
		what: r.FormValue("peer"), capacity: r.FormValue("capacity"), push: r.FormValue("push"), public: r.FormValue("public") == "true",
	})
	answer(w, v, invalidUsage("open a channel", err))
}

func (s *station) apiCloseChannel(w http.ResponseWriter, r *http.Request) {
	v, err := local{s}.close(r.Context(), channelOrder{what: r.FormValue("channel"), force: r.FormValue("force") == "true"})
	answer(w, v, invalidUsage("close a channel", err))
}

// invalidUsage has a mistake of the caller's answered as one.
func invalidUsage(op string, err error) error {
	if code := exitCode(err); err != nil && (code == exitUsage || code == exitNotFound) {
		return invalid(op, err)
	}
	return err
}
