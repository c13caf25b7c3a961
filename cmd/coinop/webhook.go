//go:build !omit_gateway

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"coinop.dev/core/step"
)

// An endpoint is told of events.
type endpoint struct {
	ID    string    `json:"id"`
	URL   string    `json:"url"`
	Types []string  `json:"types,omitempty"`
	Off   bool      `json:"off,omitempty"`
	At    step.Time `json:"at_ms"`
	// Secret is set where this command has made one.
	Secret string `json:"secret,omitempty"`
}

// maxSecretFile bounds the file of a secret, in bytes.
const maxSecretFile = 1024

func webhookPath(id string) string { return "/v1/webhooks/" + url.PathEscape(id) }

func webhookCommand(u *ui) *cobra.Command {
	f := u.family(&cobra.Command{
		Use: "webhook", Short: "Who is told of events by HTTP",
		Long: `Each event is posted as JSON, signed: X-Signature-256 is the HMAC-SHA256 of the body under the
receiver's secret. An event that is not taken is tried again for three days, and may be delivered again
after that.`,
		Example: "  coinop webhook add https://shop.example/hooks --types order. --secret-file hook.secret\n  coinop webhook deliveries hook-1",
	})
	f.add("list", "List the receivers", func(ctx context.Context, r *running, _ []string) error {
		all := []endpoint{}
		if err := r.look(ctx, "/v1/webhooks", nil, &all); err != nil {
			return err
		}
		return u.show(map[string]any{"webhooks": all}, func(w io.Writer) {
			columns(w, "WEBHOOK URL EVENTS STATE SINCE", func(row func(...any)) {
				for _, p := range all {
					state := "on"
					if p.Off {
						state = "off"
					}
					row(p.ID, p.URL, strings.Join(p.Types, ","), state, when(p.At))
				}
			})
		})
	})
	f.addWebhook()
	f.add("remove <webhook>", "Forget a receiver and its deliveries", func(ctx context.Context, r *running, args []string) error {
		if err := r.ask(ctx, http.MethodDelete, webhookPath(args[0]), nil, nil); err != nil {
			return err
		}
		return u.show(map[string]any{"removed": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s is told nothing more\n", args[0]) })
	})
	f.add("deliveries <webhook>", "List what was delivered to a receiver, newest first", u.deliveries)
	f.add("redeliver <webhook> <event>", "Deliver an event again, now", func(ctx context.Context, r *running, args []string) error {
		if err := r.ask(ctx, http.MethodPost, webhookPath(args[0])+"/deliveries/"+url.PathEscape(args[1])+"/redeliver", nil, nil); err != nil {
			return err
		}
		return u.show(map[string]any{"webhook": args[0], "event": args[1]}, func(w io.Writer) { fmt.Fprintf(w, "event %s goes to %s again\n", args[1], args[0]) })
	})
	f.add("ping <webhook>", "Send a receiver an event of type ping, and print its answer", func(ctx context.Context, r *running, args []string) error {
		var v struct {
			Status int    `json:"status"`
			Error  string `json:"error,omitempty"`
		}
		if err := r.ask(ctx, http.MethodPost, webhookPath(args[0])+"/ping", nil, &v); err != nil {
			return err
		}
		if v.Error != "" {
			return fmt.Errorf("%s: %s", args[0], v.Error)
		}
		return u.show(v, func(w io.Writer) { fmt.Fprintf(w, "%s answers %d\n", args[0], v.Status) })
	})
	return f.Command
}

func (f *family) addWebhook() {
	var name, secretFile string
	var types []string
	var off bool
	add := f.add("add <url>", "Add a receiver, or change the one of a name", func(ctx context.Context, r *running, args []string) error {
		body := map[string]any{"url": args[0], "types": types, "off": off}
		p := endpoint{}
		if secretFile != "" {
			raw, err := f.u.file(secretFile, maxSecretFile)
			if err != nil {
				return err
			}
			body["secret"] = strings.TrimSpace(string(raw))
		} else if name == "" {
			p.Secret = rand.Text()
			body["secret"] = p.Secret
		}
		method, path := http.MethodPost, "/v1/webhooks"
		if name != "" {
			method, path = http.MethodPut, webhookPath(name)
		}
		if err := r.ask(ctx, method, path, body, &p); err != nil {
			return err
		}
		return f.u.show(p, func(w io.Writer) {
			fmt.Fprintf(w, "%s is told from now on, as %s\n", clean(p.URL), p.ID)
			if p.Secret != "" {
				fmt.Fprintf(w, "its secret, shown now and never again: %s\n", p.Secret)
			}
		})
	})
	add.Long = "Without --secret-file a secret is made, and printed once. With --name the receiver of that name is added, or changed:\n" +
		"it keeps its secret unless there is a new one."
	add.Flags().StringVar(&name, "name", "", "what it is called here")
	add.Flags().StringSliceVar(&types, "types", nil, "only these events, such as order.paid,device. (all of devices)")
	add.Flags().StringVar(&secretFile, "secret-file", "", "the file with the secret that signs, of at least 16 characters; - for standard input")
	add.Flags().BoolVar(&off, "off", false, "keep it, and tell it nothing")
}

func (u *ui) deliveries(ctx context.Context, r *running, args []string) error {
	var page struct {
		Deliveries []struct {
			Endpoint string    `json:"endpoint"`
			Event    uint64    `json:"event"`
			State    string    `json:"state"`
			Attempts int       `json:"attempts"`
			Next     step.Time `json:"next_ms,omitempty"`
			At       step.Time `json:"at_ms"`
			Status   int       `json:"status,omitempty"`
			Error    string    `json:"error,omitempty"`
		} `json:"deliveries"`
		Next uint64 `json:"next,omitempty"`
	}
	if err := r.look(ctx, webhookPath(args[0])+"/deliveries", nil, &page); err != nil {
		return err
	}
	return u.show(page, func(w io.Writer) {
		columns(w, "EVENT STATE ATTEMPTS LAST NEXT ANSWER ERROR", func(row func(...any)) {
			for _, d := range page.Deliveries {
				row(d.Event, d.State, d.Attempts, when(d.At), when(d.Next), d.Status, d.Error)
			}
		})
	})
}
