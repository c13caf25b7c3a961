//go:build omit_electrum

package main

import "errors"

func (s *station) serveElectrum(string) (string, func() error, error) {
	return "", nil, errors.New("this build serves no Electrum clients (tag omit_electrum)")
}
