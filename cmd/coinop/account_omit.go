//go:build omit_bitcoin

package main

import (
	"net/http"

	"github.com/spf13/cobra"
)

func accountCommand(*ui) *cobra.Command { return nil }

func (s *station) accountAPI(*http.ServeMux) {}
