//go:build !omit_gateway

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/core/macaroon"
	"coinop.dev/core/step"
	"coinop.dev/world/secret"
)

func credentialCommand(u *ui) *cobra.Command {
	f := u.family(&cobra.Command{
		Use: "credential", Short: "Tokens for people and programs: bake, narrow, inspect, revoke",
		Long: `A credential is a macaroon: whoever holds one can narrow it, without asking anybody, and
nobody can widen it. Its scopes are read (look at everything), sell (bills, test fire), pay
(spend) and admin (everything). Give a program what it needs and no more.`,
		Example: `  coinop credential bake dashboard --scope read --out dashboard.token
  coinop credential narrow dashboard.token --expires 1h --caveat ip=192.0.2.7
  coinop credential inspect dashboard.token`,
	})
	f.bakeCredentials()
	f.AddCommand(u.narrowCommand(), u.inspectCommand())
	return f.Command
}

// credential is one as the gateway knows it.
type credential struct {
	Name    string    `json:"name"`
	Number  uint64    `json:"number"`
	Scopes  []string  `json:"scopes"`
	Expires step.Time `json:"expires_ms,omitempty"`
	At      step.Time `json:"at_ms"`
	Token   string    `json:"token,omitempty"`
}

func (f *family) bakeCredentials() {
	var scopes []string
	var n narrowing
	var expires, out string
	bake := f.add("bake <name>", "Bake a credential", func(ctx context.Context, r *running, args []string) error {
		until, err := later(expires)
		if err != nil {
			return err
		}
		body := map[string]any{"name": args[0], "scopes": scopes}
		if until > 0 {
			body["expires_ms"] = until
		}
		var c credential
		if err := r.ask(ctx, http.MethodPost, "/v1/credentials", body, &c); err != nil {
			return err
		}
		m, err := macaroon.Parse(c.Token)
		if err == nil {
			m, err = n.narrow(m)
		}
		if err != nil {
			return err
		}
		return f.u.hand(m, out)
	})
	bake.Long = "Asked again with the same name and terms it is the same one; it is kept nowhere, so keep it yourself."
	bake.Flags().StringSliceVar(&scopes, "scope", []string{"read"}, "read, sell, pay, admin")
	bake.Flags().StringVar(&expires, "expires", "", "good for so long, such as 24h or 30d; never ends by itself without")
	bake.Flags().StringArrayVar(&n.caveats, "caveat", nil, "narrow it further, such as max_payment_msat=5000")
	bake.Flags().StringVar(&out, "out", "", "write it to this new file, for its owner alone")
	f.add("list", "List the operators' credentials that are good", func(ctx context.Context, r *running, _ []string) error {
		all := []credential{}
		if err := r.look(ctx, "/v1/credentials", nil, &all); err != nil {
			return err
		}
		return f.u.show(map[string]any{"credentials": all}, func(w io.Writer) {
			columns(w, "NAME SCOPES SINCE EXPIRES", func(row func(...any)) {
				for _, c := range all {
					row(c.Name, strings.Join(c.Scopes, ","), when(c.At), when(c.Expires))
				}
			})
		})
	})
	f.add("revoke <name>", "Revoke a credential, and all that were narrowed from it", func(ctx context.Context, r *running, args []string) error {
		if err := r.ask(ctx, http.MethodDelete, "/v1/credentials/"+url.PathEscape(args[0]), nil, nil); err != nil {
			return err
		}
		return f.u.show(map[string]any{"revoked": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s is revoked\n", args[0]) })
	})
}

// narrowing is what is taken away from a credential.
type narrowing struct {
	caveats, scopes, services []string
	expires                   string
}

func (n narrowing) narrow(m macaroon.Macaroon) (macaroon.Macaroon, error) {
	caveats := append([]string{}, n.caveats...)
	if len(n.scopes) > 0 {
		caveats = append(caveats, "scope="+strings.Join(n.scopes, ","))
	}
	if len(n.services) > 0 {
		caveats = append(caveats, "service="+strings.Join(n.services, ","))
	}
	if n.expires != "" {
		until, err := later(n.expires)
		if err != nil {
			return m, err
		}
		caveats = append(caveats, "expires="+strconv.FormatInt(int64(until/step.Second), 10))
	}
	// What would allow more is a credential that is good for nothing. One of somebody
	// else's may have caveats that only they understand.
	if c, err := macaroon.Read(m.Caveats); err == nil {
		for _, caveat := range caveats {
			if err := c.Add(caveat); err != nil {
				return m, usage{err}
			}
		}
	}
	return m.Narrow(caveats...)
}

func (u *ui) narrowCommand() *cobra.Command {
	var n narrowing
	var out string
	c := &cobra.Command{
		Use: "narrow <file|->", Short: "Make a credential that allows less, offline", Args: exactly("<file|->", 1),
		Long: "The one in the file stays as it is. Tokens are read from files, or from standard input, because a command line is no\n" +
			"place for secrets: others can see it.",
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := u.credential(args[0])
			if err != nil {
				return err
			}
			if len(n.caveats)+len(n.scopes)+len(n.services) == 0 && n.expires == "" {
				return usage{errors.New("say what it may not: --expires, --scope, --service, --caveat key=value")}
			}
			if m, err = n.narrow(m); err != nil {
				return err
			}
			return u.hand(m, out)
		},
	}
	c.Flags().StringArrayVar(&n.caveats, "caveat", nil, "such as max_payment_msat=5000, budget_msat=…, payee=…, method=GET, ip=192.0.2.7")
	c.Flags().StringSliceVar(&n.scopes, "scope", nil, "these scopes only")
	c.Flags().StringSliceVar(&n.services, "service", nil, "these services only")
	c.Flags().StringVar(&n.expires, "expires", "", "good for so long, such as 90s or 24h")
	c.Flags().StringVar(&out, "out", "", "write it to this new file, for its owner alone")
	return c
}

func (u *ui) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "inspect <file|->", Short: "Say what a credential allows, offline", Args: exactly("<file|->", 1),
		Long: "Whether it is good only its gateway knows: it may be forged, or revoked.",
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := u.credential(args[0])
			if err != nil {
				return err
			}
			v := map[string]any{"id": printable(m.ID), "caveats": append([]string{}, m.Caveats...)}
			c, err := macaroon.Read(m.Caveats)
			now := step.Time(time.Now().UnixMilli())
			if until, ok := c.Limit("expires"); ok {
				v["expires_ms"], v["expired"] = until*1000, c.Expired(now)
			}
			if err != nil {
				v["note"] = err.Error()
			}
			return u.show(v, func(w io.Writer) {
				fmt.Fprintf(w, "identifier  %s\n", v["id"])
				for _, caveat := range m.Caveats {
					fmt.Fprintf(w, "only        %s\n", clean(caveat))
				}
				if until, ok := v["expires_ms"].(uint64); ok {
					fmt.Fprintf(w, "until       %s%s\n", when(step.Time(until)), map[any]string{true: ", which has passed"}[v["expired"]])
				}
				if err != nil {
					fmt.Fprintf(w, "note        %s\n", clean(err.Error()))
				}
			})
		},
	}
}

// printable is an identifier as text, or in hex.
func printable(id []byte) string {
	if text := string(id); clean(text) == text && strings.ToValidUTF8(text, "") == text {
		return text
	}
	return fmt.Sprintf("%x", id)
}

// credential reads one.
func (u *ui) credential(path string) (m macaroon.Macaroon, err error) {
	raw, err := u.file(path, macaroon.MaxText+2)
	if err != nil {
		return m, err
	}
	if m, err = macaroon.Parse(strings.TrimSpace(string(raw))); err != nil {
		err = usage{fmt.Errorf("%s: %w", path, err)}
	}
	return m, err
}

// hand gives a credential to whoever asked for it: on standard output, or in a file.
func (u *ui) hand(m macaroon.Macaroon, out string) error {
	v := map[string]any{"id": printable(m.ID), "caveats": m.Caveats}
	if out != "" {
		if err := secret.Create(out, []byte(m.Text()+"\n")); err != nil {
			if errors.Is(err, secret.ErrFull) {
				err = usage{fmt.Errorf("%s is there already; name another file", out)}
			}
			return err
		}
		v["file"] = out
		return u.show(v, func(w io.Writer) { fmt.Fprintf(w, "the credential is in %s\n", out) })
	}
	v["token"] = m.Text()
	return u.show(v, func(w io.Writer) { fmt.Fprintln(w, m.Text()) })
}
