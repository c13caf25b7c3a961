package main

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"
)

func chainCommand(u *ui) *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "chain", Short: "Mine on, or take money from, the regtest chain of a machine that runs",
	}
	c.PersistentFlags().StringVarP(&path, "config", "c", "coinop.toml", "the TOML file of the machine with the regtest: chain")
	two := func(use, short string, n int, ask func(args []string) (string, url.Values)) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short,
			Args: func(c *cobra.Command, args []string) error {
				if len(args) != n {
					return usage{fmt.Errorf("%s takes %d arguments: %s", c.CommandPath(), n, use)}
				}
				return nil
			},
			RunE: func(cmd *cobra.Command, args []string) error {
				config, err := readConfig(path)
				if err != nil {
					return err
				}
				what, values := ask(args)
				return u.chain(cmd.Context(), config, what, values)
			},
		}
	}
	c.AddCommand(
		two("mine <blocks>", "Mine blocks", 1, func(args []string) (string, url.Values) {
			return "mine", url.Values{"blocks": {args[0]}}
		}),
		two("faucet <address> <sat>", "Pay an address, and mine that", 2, func(args []string) (string, url.Values) {
			return "faucet", url.Values{"address": {args[0]}, "sat": {args[1]}}
		}),
	)
	return c
}

func (u *ui) chain(ctx context.Context, config Config, what string, values url.Values) error {
	r, err := config.running()
	if err != nil {
		return err
	}
	var result map[string]any
	if err := r.call(ctx, "POST", "/v1/chain/"+what, values, &result); err != nil {
		return err
	}
	return u.show(result, func(w io.Writer) { fmt.Fprintln(w, "done") })
}
