package main

import (
	"errors"
	"net"
	"net/http"
	"time"

	"coinop.dev/gateway/bccapi"
	"coinop.dev/world/chain"
)

// Fronts are what a machine serves to others that have no view of the chain
// themselves: Electrum's protocol, and the old BCCAPI.

// openFronts starts those that the config names, and says where each is.
func (s *station) openFronts() (at map[string]string, stop func(), err error) {
	var stops []func() error
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	at = map[string]string{}
	for _, front := range []struct {
		name, addr string
		open       func(addr string) (uri string, stop func() error, err error)
	}{{"electrum", s.Config.Electrum, s.serveElectrum}, {"bccapi", s.Config.BCCAPI, s.serveBCCAPI}} {
		if front.addr == "" {
			continue
		}
		uri, end, err := front.open(front.addr)
		if err != nil {
			stop()
			return nil, nil, err
		}
		at[front.name] = uri
		stops = append(stops, end)
	}
	return at, stop, nil
}

// frontIdle is how long a client of BCCAPI may be silent between requests, and
// frontHeader how long the head of one may take.
const (
	frontIdle   = 2 * time.Minute
	frontHeader = 10 * time.Second
)

func (s *station) serveBCCAPI(addr string) (uri string, stop func() error, err error) {
	if s.Chain == nil {
		return "", nil, errors.New("bccapi answers from a chain; configure one")
	}
	o := bccapi.Options{Source: s.Chain, OnDown: func(err error) { s.Engine.Log.Debug("bccapi", "err", err) }}
	if r, ok := s.Chain.(chain.Ruled); ok {
		o.Params = r.Rules()
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/ng/", bccapi.New(o))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: frontHeader, IdleTimeout: frontIdle}
	go server.Serve(l)
	return "http://" + l.Addr().String() + "/ng/", server.Close, nil
}
