//go:build !omit_gateway

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/gateway/data"
)

// readOrder is what read was asked for.
type readOrder struct {
	url, service, seller, most string
	chunks                     int
	timeout                    time.Duration
}

// purseFunc is a purse as gateway/data pays with.
type purseFunc func(context.Context, money.Order) (money.Receipt, error)

// Pay pays.
func (f purseFunc) Pay(ctx context.Context, o money.Order) (money.Receipt, error) { return f(ctx, o) }

func readCommand(u *ui) *cobra.Command {
	var path string
	r := readOrder{}
	c := &cobra.Command{
		Use: "read <gateway URL> [service]", Short: "Buy data that is sold sealed: the payment is the key",
		Long: "Without a service it lists what the gateway sells. A reading comes sealed, with the seller's signed commitment; it is\n" +
			"checked before anything is paid, and the payment reveals its key. With --chunks it is a stream, paid reading by reading,\n" +
			"so nobody risks more than one. What a seller has signed and not kept to is written into the data folder as evidence.",
		Example: "  coinop read -c buyer.toml http://127.0.0.1:8402\n" +
			"  coinop read -c buyer.toml --max-cost 10sat http://127.0.0.1:8402 temperature\n" +
			"  coinop read -c buyer.toml --max-cost 10sat --chunks 5 http://127.0.0.1:8402 temperature",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usage{errors.New("read takes a gateway's URL, and the service to read")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r.url = args[0]
			if len(args) == 2 {
				r.service = args[1]
			}
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			return u.read(cmd.Context(), config, r)
		},
	}
	configFlag(c, &path)
	f := c.Flags()
	f.StringVar(&r.most, "max-cost", "", "the most that one reading may cost, such as 10sat")
	f.StringVar(&r.seller, "seller", "", "the seller's node key; without it, whoever the gateway says it is")
	f.IntVar(&r.chunks, "chunks", 0, "read a stream of so many readings")
	f.DurationVar(&r.timeout, "timeout", time.Minute, "give up waiting after this long; what was paid stays paid")
	return c
}

func (u *ui) read(ctx context.Context, config Config, r readOrder) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	client := data.Client{URL: r.url}
	list, err := client.List(ctx)
	if err != nil {
		return exit{err, exitConnect}
	}
	if r.service == "" {
		return u.print(list)
	}
	terms := data.Terms{Seller: list.Seller, Evidence: filepath.Join(config.Data, "evidence")}
	if r.seller != "" {
		if terms.Seller, err = keys.ParsePublicHex(r.seller); err != nil {
			return usage{fmt.Errorf("--seller: %w", err)}
		}
	}
	if terms.Most, err = money.ParseAmount(firstOf(r.most, "0sat")); err != nil {
		return usage{fmt.Errorf("--max-cost: %w", err)}
	}
	config.Listen = "" // it is not to be paid now
	s, err := openStation(context.WithoutCancel(ctx), config, nil, u.log(config.Name))
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.synced(ctx); err != nil {
		return exit{err, exitConnect}
	}
	if err := s.OpenRails(ctx); err != nil {
		return err
	}
	payer := purseFunc(s.payOrOpen(u))
	if r.chunks > 0 {
		return u.readStream(ctx, s, client, payer, r, terms)
	}
	o, err := client.Offer(ctx, r.service)
	if err != nil {
		return err
	}
	bought, err := data.Buy(ctx, payer, o, terms)
	if err != nil {
		return err
	}
	fmt.Fprintf(u.out, "%s\n", bought.Data)
	return nil
}

func (u *ui) readStream(ctx context.Context, s *station, client data.Client, payer data.Payer, r readOrder, terms data.Terms) error {
	stream, err := client.Stream(ctx, r.service, r.chunks)
	if err != nil {
		return err
	}
	reader, err := data.NewReader(client, payer, s.DB, stream, terms)
	if err != nil {
		return err
	}
	for {
		b, err := reader.Next(ctx)
		if errors.Is(err, io.EOF) {
			return reader.Forget()
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(u.out, "%s\n", b)
	}
}
