//go:build !omit_bitcoin && !omit_gateway

package main

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
	"coinop.dev/rail/bitcoinrail"
	"coinop.dev/world/drive"
)

// accountCommand is for who runs a gateway: each device has an account there, and
// the only key to it.
func accountCommand(u *ui) *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "account", Short: "Accounts of devices at a gateway that runs: invite, list, address, revoke",
		Long: "A gateway is a machine with the rail bitcoin:?keys=0&host=<host>:<port>. It has public keys only: the device of an\n" +
			"account consents to every payment. The gateway must run and have an http address in its config.",
	}
	c.PersistentFlags().StringVarP(&path, "config", "c", "coinop.toml", "the gateway's TOML file")
	ask := func(cmd *cobra.Command, method, what string, values url.Values, into any) error {
		config, err := readConfig(path)
		if err != nil {
			return err
		}
		r, err := config.running()
		if err != nil {
			return err
		}
		return r.call(cmd.Context(), method, "/v1/accounts"+what, values, into)
	}
	named := func(use, short string, run func(cmd *cobra.Command, name string) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short,
			Args: func(c *cobra.Command, args []string) error {
				if len(args) != 1 {
					return usage{fmt.Errorf("%s takes the name of an account", c.CommandPath())}
				}
				return nil
			},
			RunE: func(cmd *cobra.Command, args []string) error { return run(cmd, args[0]) },
		}
	}
	tenant, valid := "", 24*time.Hour
	invite := named("invite <name>", "Print a code with which one device opens this account, once", func(cmd *cobra.Command, name string) error {
		var v invitation
		if err := ask(cmd, "POST", "", url.Values{"name": {name}, "tenant": {tenant}, "valid": {valid.String()}}, &v); err != nil {
			return err
		}
		return u.show(v, func(w io.Writer) {
			fmt.Fprintf(w, "%s\n%s\nvalid until %s, once; the device's rail:\n  %s\n", qrCode(v.Rail), v.Code, v.Expires.Format(time.DateTime), v.Rail)
		})
	})
	invite.Flags().StringVar(&tenant, "tenant", "", "whose device it is, for people")
	invite.Flags().DurationVar(&valid, "valid", valid, "how long the code can be used")
	c.AddCommand(invite,
		&cobra.Command{Use: "list", Short: "List the accounts, what is in them and what is under way", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				var sum wallet.Summary
				if err := ask(cmd, "GET", "", nil, &sum); err != nil {
					return err
				}
				return u.show(sum, func(w io.Writer) { accountTable(w, sum) })
			}},
		named("address <name>", "Print a new address of an account", func(cmd *cobra.Command, name string) error {
			var at wallet.Address
			if err := ask(cmd, "POST", "/address", url.Values{"name": {name}}, &at); err != nil {
				return err
			}
			return u.show(at, func(w io.Writer) { fmt.Fprintln(w, at.Text) })
		}),
		named("revoke <name>", "End an account at once: what is not published is withdrawn", func(cmd *cobra.Command, name string) error {
			var v wallet.View
			if err := ask(cmd, "POST", "/revoke", url.Values{"name": {name}}, &v); err != nil {
				return err
			}
			return u.show(v, func(w io.Writer) { fmt.Fprintf(w, "%s is revoked\n", name) })
		}),
	)
	return c
}

func accountTable(w io.Writer, sum wallet.Summary) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "account\ttenant\tconfirmed sat\twaiting\treserved\torders\tstate")
	for _, a := range sum.Accounts {
		state := "open"
		if a.Revoked {
			state = "revoked"
		} else if !a.Synced {
			state = "looking for coins"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", a.Account, a.Tenant, a.Confirmed, a.Waiting, a.Reserved, a.Orders, state)
	}
	t.Flush()
}

// invitation is what a device is given.
type invitation struct {
	Account string    `json:"account"`
	Code    string    `json:"code"`
	Expires time.Time `json:"expires"`
	Rail    string    `json:"rail"`
}

// codeBytes is 80 bits, which nobody guesses over a link.
const codeBytes = 10

// maxValid bounds how long a code may lie about.
const maxValid = 30 * 24 * time.Hour

// accountAPI adds what accountCommand asks a running gateway.
func (s *station) accountAPI(handle func(pattern, scope string, h http.HandlerFunc)) {
	handle("GET /v1/accounts", "admin", func(w http.ResponseWriter, r *http.Request) {
		var sum wallet.Summary
		err := s.Engine.Host.Do(r.Context(), func(m *drive.Machine) {
			if core, ok := m.Core(wallet.Name).(*wallet.Wallet); ok {
				sum = core.Summary()
			}
		})
		answer(w, sum, err)
	})
	handle("POST /v1/accounts", "admin", func(w http.ResponseWriter, r *http.Request) {
		v, err := s.invite(r.Context(), r.FormValue("name"), r.FormValue("tenant"), r.FormValue("valid"))
		answer(w, v, err)
	})
	handle("POST /v1/accounts/address", "admin", func(w http.ResponseWriter, r *http.Request) {
		v, err := s.askWallet(r.Context(), "fresh/"+r.FormValue("name"), func(ask string) any {
			return wallet.Fresh{Ask: ask, Account: r.FormValue("name")}
		})
		answer(w, v, err)
	})
	handle("POST /v1/accounts/revoke", "admin", func(w http.ResponseWriter, r *http.Request) {
		v, err := s.askWallet(r.Context(), "revoke/"+r.FormValue("name"), func(ask string) any {
			return wallet.Revoke{Ask: ask, Account: r.FormValue("name")}
		})
		answer(w, v, err)
	})
}

// askWallet asks the gateway's wallet, if the machine has one.
func (s *station) askWallet(ctx context.Context, id string, event func(ask string) any) (any, error) {
	there := false
	if err := s.Engine.Host.Do(ctx, func(m *drive.Machine) { _, there = m.Core(wallet.Name).(*wallet.Wallet) }); err != nil {
		return nil, err
	}
	if !there {
		return nil, &money.Error{Kind: money.Refused, Op: "account", Err: errors.New("this machine keeps no wallet; add the rail bitcoin:?keys=0")}
	}
	return s.Engine.Host.Ask(ctx, wallet.Name, id, event(id))
}

func (s *station) invite(ctx context.Context, name, tenant, valid string) (v invitation, err error) {
	life, err := time.ParseDuration(valid)
	if err != nil || life <= 0 || life > maxValid {
		return v, invalid("invite", fmt.Errorf("valid=%.20q is not a time of at most %v", valid, maxValid))
	}
	if s.Addr == "" {
		return v, &money.Error{Kind: money.Refused, Op: "invite", Err: errors.New("devices cannot reach this machine: its config has no listen address")}
	}
	var raw [codeBytes]byte
	rand.Read(raw[:])
	v.Account, v.Code, v.Expires = name, base32.StdEncoding.EncodeToString(raw[:]), time.Now().Add(life).Truncate(time.Second)
	v.Rail = fmt.Sprintf("%s://%v@%s?claim=%s", bitcoinrail.Scheme, s.Key.Public(), s.Addr, v.Code)
	_, err = s.askWallet(ctx, "invite/"+name, func(ask string) any {
		return wallet.Invite{Ask: ask, Code: v.Code, Account: name, Tenant: tenant, Expires: step.Time(v.Expires.UnixMilli())}
	})
	return v, err
}
