package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/spf13/cobra"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/money"
	"coinop.dev/purse"
	"coinop.dev/rail"
)

// minerChain is a chain in the box: it mines and gives money away.
type minerChain interface {
	Mine(blocks int) ([]chainhash.Hash, error)
	Faucet(script []byte, sat int64) (wire.OutPoint, error)
	Addr() string
}

func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVarP(path, "config", "c", "coinop.toml", "the machine's TOML file")
}

func serveCommand(u *ui) *cobra.Command {
	var path string
	var accept bool
	c := &cobra.Command{
		Use: "serve", Short: "Run a machine that sells, until Ctrl-C", Args: noArgs,
		Long: "Runs the machine of a config file: it listens for buyers, is paid on its rails, and delivers. Its channels stay open\nwhen it stops; they are in its store.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			config.AcceptStale = accept
			return serve(cmd.Context(), u, config)
		},
	}
	configFlag(c, &path)
	staleFlag(c, &accept)
	return c
}

// staleFlag is of the commands that start a machine.
func staleFlag(c *cobra.Command, accept *bool) {
	c.Flags().BoolVar(accept, "accept-stale", false, "start although the store may be an old copy; peers close all channels")
}

func serve(ctx context.Context, u *ui, config Config) error {
	mine := time.Duration(0)
	if config.Mine != "" {
		var err error
		if mine, err = time.ParseDuration(config.Mine); err != nil || mine < 10*time.Millisecond {
			return usage{fmt.Errorf("mine = %q is not a time of at least 10ms, such as 2s", config.Mine)}
		}
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s, err := openStation(life, config, nil, u.log(config.Name))
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.OpenRails(ctx); err != nil {
		return err
	}
	ready := map[string]any{"ready": true, "name": config.Name, "node": s.Key.Public(), "listen": s.Addr, "pay_to": s.PayTo()}
	if m, ok := s.Chain.(minerChain); ok {
		ready["chain"] = "p2p://" + m.Addr()
		if mine > 0 {
			go mineEvery(life, m, mine)
		}
	}
	fronts, stopFronts, err := s.openFronts()
	if err != nil {
		return err
	}
	defer stopFronts()
	for name, uri := range fronts {
		ready[name] = uri
	}
	if config.HTTP != "" {
		addr, closeAPI, err := s.serveAPI(config.HTTP)
		if err != nil {
			return err
		}
		defer closeAPI()
		ready["http"] = "http://" + addr
	}
	if err := u.show(ready, func(w io.Writer) {
		fmt.Fprintf(w, "%s is ready; pay it at\n", config.Name)
		for _, uri := range s.PayTo() {
			fmt.Fprintf(w, "  %s\n", uri)
		}
		if chain, ok := ready["chain"]; ok {
			fmt.Fprintf(w, "its chain is at %v\n", chain)
		}
	}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-s.Engine.Stopped():
		return s.Engine.Err()
	}
}

func (s *station) payTo() (uris []string) {
	for _, r := range s.Rails() {
		if b, ok := rail.As[rail.Biller](r); ok {
			uris = append(uris, b.PayTo())
		}
	}
	return uris
}

func mineEvery(ctx context.Context, m minerChain, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			m.Mine(1)
		}
	}
}

// maxMine and maxFaucet bound what one request may ask of a chain in the box.
const (
	maxMine   = 1000
	maxFaucet = 1_000_000_000 // satoshi
)

// serveAPI is the machine's local API. It has no passwords, so it is on
// loopback only, and refuses pages of other origins.
func (s *station) serveAPI(addr string) (string, func(), error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("http: %w", err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		l.Close()
		return "", nil, usage{fmt.Errorf("http = %q is not on loopback; this API has no passwords", addr)}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.apiStatus)
	mux.HandleFunc("POST /v1/bills", s.apiBill)
	mux.HandleFunc("GET /v1/orders/{id}", s.apiOrder)
	mux.HandleFunc("POST /v1/close", s.apiClose)
	mux.HandleFunc("GET /v1/channels", s.apiChannels)
	mux.HandleFunc("POST /v1/channels", s.apiOpenChannel)
	mux.HandleFunc("POST /v1/channels/close", s.apiCloseChannel)
	mux.HandleFunc("POST /v1/chain/mine", s.apiMine)
	mux.HandleFunc("POST /v1/chain/faucet", s.apiFaucet)
	s.accountAPI(mux)
	server := &http.Server{Handler: http.NewCrossOriginProtection().Handler(mux), ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(l)
	return l.Addr().String(), func() { server.Close() }, nil
}

// answer writes JSON, or RFC 9457 problem details for an error.
func answer(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		status = map[money.Kind]int{money.Invalid: http.StatusBadRequest, money.Refused: http.StatusForbidden, money.Unpaid: http.StatusPaymentRequired}[money.KindOf(err)]
		if status == 0 {
			status = http.StatusInternalServerError
		}
		w.Header().Set("Content-Type", "application/problem+json")
		v = map[string]any{"type": "about:blank", "title": money.KindOf(err).Error(), "status": status, "detail": err.Error()}
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func invalid(op string, err error) error {
	return &money.Error{Kind: money.Invalid, Op: op, Err: err}
}

func (s *station) apiStatus(w http.ResponseWriter, r *http.Request) {
	v, err := s.status(r.Context())
	answer(w, v, err)
}

// status is everything a person asks of a machine.
func (s *station) status(ctx context.Context) (map[string]any, error) {
	v := map[string]any{"name": s.Config.Name, "node": s.Key.Public(), "pay_to": s.PayTo()}
	spent, err := s.Purse.Summary(ctx)
	if err != nil {
		return nil, err
	}
	v["purse"] = spent
	if s.Till != nil {
		earned, err := s.Till.Summary(ctx)
		if err != nil {
			return nil, err
		}
		v["till"] = earned
	}
	channels := []any{}
	for _, r := range s.Rails() {
		if c, ok := rail.As[summarizer](r); ok {
			all, err := c.Summary(ctx)
			if err != nil {
				return nil, err
			}
			channels = append(channels, all...)
		}
	}
	v["channels"] = channels
	if s.Chain != nil {
		if height, hash, err := s.Chain.Tip(ctx); err == nil {
			v["chain"] = map[string]any{"height": height, "tip": hash.String()}
		}
		coins, err := s.Chain.Coins(ctx, tx.P2WPKH(s.Wallet().Public()))
		if err == nil {
			sum := int64(0)
			for _, c := range coins {
				sum += c.Value
			}
			v["onchain_sat"] = sum
		}
	}
	return v, nil
}

// summarizer is a rail with channels to show.
type summarizer interface {
	Summary(ctx context.Context) ([]any, error)
}

func (s *station) apiBill(w http.ResponseWriter, r *http.Request) {
	amount, err := money.ParseAmount(r.FormValue("amount"))
	if err != nil {
		answer(w, nil, invalid("bill", err))
		return
	}
	bill := money.Bill{ID: purse.NewOrderID(), Amount: amount, For: r.FormValue("for")}
	uris := []string{}
	for _, held := range s.Rails() {
		if b, ok := rail.As[rail.Biller](held); ok {
			uri, err := b.Bill(bill)
			if err != nil {
				answer(w, nil, err)
				return
			}
			uris = append(uris, uri)
		}
	}
	if len(uris) == 0 {
		answer(w, nil, &money.Error{Kind: money.Refused, Op: "bill", Err: errors.New("this machine has no rail to be paid on")})
		return
	}
	answer(w, map[string]any{"order": bill.ID, "amount_msat": uint64(amount), "pay": uris}, nil)
}

func (s *station) apiOrder(w http.ResponseWriter, r *http.Request) {
	var id money.OrderID
	if err := id.UnmarshalText([]byte(r.PathValue("id"))); err != nil {
		answer(w, nil, invalid("order", err))
		return
	}
	if s.Till == nil {
		answer(w, nil, &money.Error{Kind: money.Refused, Op: "order", Err: errors.New("this machine has no till")})
		return
	}
	o, err := s.Till.Order(r.Context(), id)
	answer(w, o, err)
}

func (s *station) apiClose(w http.ResponseWriter, r *http.Request) {
	for _, held := range s.Rails() {
		if c, ok := rail.As[rail.Closer](held); ok {
			if err := c.Shut(r.Context(), r.FormValue("force") == "true"); err != nil {
				answer(w, nil, err)
				return
			}
		}
	}
	answer(w, map[string]any{"closed": true}, nil)
}

func (s *station) miner(w http.ResponseWriter) minerChain {
	m, ok := s.Chain.(minerChain)
	if !ok {
		answer(w, nil, &money.Error{Kind: money.Refused, Op: "chain", Err: errors.New("only a regtest: chain mines and gives money away")})
		return nil
	}
	return m
}

func (s *station) apiMine(w http.ResponseWriter, r *http.Request) {
	if m := s.miner(w); m != nil {
		n, err := strconv.Atoi(r.FormValue("blocks"))
		if err != nil || n < 1 || n > maxMine {
			answer(w, nil, invalid("mine", fmt.Errorf("blocks=%.20q is not a number from 1 to %d", r.FormValue("blocks"), maxMine)))
			return
		}
		hashes, err := m.Mine(n)
		answer(w, map[string]any{"blocks": len(hashes)}, err)
	}
}

func (s *station) apiFaucet(w http.ResponseWriter, r *http.Request) {
	if m := s.miner(w); m != nil {
		script, err := parseAddress(r.FormValue("address"))
		if err != nil {
			answer(w, nil, invalid("faucet", err))
			return
		}
		sat, err := strconv.ParseInt(r.FormValue("sat"), 10, 64)
		if err != nil || sat < tx.DustP2WPKH || sat > maxFaucet {
			answer(w, nil, invalid("faucet", fmt.Errorf("sat=%.20q is not a number from %d to %d", r.FormValue("sat"), tx.DustP2WPKH, maxFaucet)))
			return
		}
		point, err := m.Faucet(script, sat)
		if err == nil {
			_, err = m.Mine(1)
		}
		answer(w, map[string]any{"txid": point.Hash.String(), "sat": sat}, err)
	}
}
