package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/money"
)

func checkCommand(u *ui) *cobra.Command {
	var path, receiptPath string
	c := &cobra.Command{
		Use: "check", Short: "Say what a config file means, or verify a receipt offline", Args: noArgs,
		Example: "  coinop check -c seller.toml\n  coinop check --receipt receipt.json",
		RunE: func(*cobra.Command, []string) error {
			if receiptPath != "" {
				return u.verifyReceipt(receiptPath, "")
			}
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			return u.checkConfig(config)
		},
	}
	configFlag(c, &path)
	c.Flags().StringVar(&receiptPath, "receipt", "", "a receipt as pay prints it; - for standard input")
	return c
}

// checkConfig prints what was understood. It makes the machine's key if there
// is none, because its address is part of the answer.
func (u *ui) checkConfig(c Config) error {
	key, err := c.LoadKey()
	if err != nil {
		return err
	}
	wallet := tx.WalletKey(key).Public()
	v := map[string]any{
		"name": c.Name, "node": key.Public(), "wallet": walletAddress(wallet), "data": c.Data, "store": c.StoreURI(), "chain": c.Chain,
		"listen": c.Listen, "http": c.HTTP, "rails": c.Rails, "sell": c.Services(), "limits": c.SpendLimits(),
	}
	return u.show(v, func(w io.Writer) {
		fmt.Fprintf(w, "machine  %s\nnode     %v\nwallet   %s\nstore    %s\nchain    %s\n", c.Name, key.Public(), walletAddress(wallet), c.StoreURI(), c.Chain)
		for _, r := range c.Rails {
			fmt.Fprintf(w, "rail     %s\n", r)
		}
		for _, it := range c.Services() {
			fmt.Fprintf(w, "sells    %s at %v per %s\n", it.Name, it.Price, it.Unit)
		}
		l := c.Limits
		for _, limit := range []struct {
			name   string
			amount money.Amount
		}{{"order", l.Order}, {"unit price", l.UnitPrice}, {"total " + l.Period.String(), l.Total}, {"payee " + l.Period.String(), l.Payee}} {
			if limit.amount > 0 {
				fmt.Fprintf(w, "limit    %v per %s\n", limit.amount, limit.name)
			}
		}
		if l.PerMinute > 0 {
			fmt.Fprintf(w, "limit    %d orders per minute\n", l.PerMinute)
		}
	})
}
