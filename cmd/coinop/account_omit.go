//go:build omit_bitcoin || omit_gateway

package main

import (
	"net/http"

	"github.com/spf13/cobra"
)

func accountCommand(*ui) *cobra.Command { return nil }

func (s *station) accountAPI(func(pattern, scope string, h http.HandlerFunc)) {}
