//go:build !omit_gateway

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func consoleCommand(u *ui) *cobra.Command {
	c := &cobra.Command{
		Use: "console", Short: "Print a link that logs a browser in at the console, once",
		Long: "The link is good for some minutes, and once. What stands behind # in it is in no server's log. The token that also\n" +
			"logs in is console.token, in the data folder.",
	}
	f := u.family(c)
	f.asks(c, func(ctx context.Context, r *running, _ []string) error {
		var v struct {
			Path string `json:"path"`
		}
		if err := r.ask(ctx, http.MethodPost, "/v1/console/login", nil, &v); err != nil {
			return err
		}
		base := r.base
		if config, err := readConfig(f.path); err == nil && config.PublicURL != "" {
			base = strings.TrimSuffix(config.PublicURL, "/")
		}
		link := base + v.Path
		return u.show(map[string]any{"url": link}, func(w io.Writer) { fmt.Fprintln(w, link) })
	})
	return c
}
