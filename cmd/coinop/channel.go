package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/rail/lnrail"
	"coinop.dev/world/store"
)

// channelOrder is what channel open and channel close are asked for.
type channelOrder struct {
	config   string
	what     string // a peer's address, or a channel
	capacity string
	push     string
	public   bool
	force    bool
	now      bool // do not wait for the chain
	stale    bool // accept a store that may be an old copy
	timeout  time.Duration
}

func channelCommand(u *ui) *cobra.Command {
	var o channelOrder
	c := &cobra.Command{
		Use: "channel", Short: "Open, close and list Lightning channels",
		Long: "Works on the machine of a config file. If coinop serve runs it, it is asked at its http address.",
	}
	c.PersistentFlags().StringVarP(&o.config, "config", "c", "coinop.toml", "the machine's TOML file")
	with := func(use, short string, do func(ctx context.Context, u *ui, config Config, o channelOrder) error) *cobra.Command {
		_, argument, _ := strings.Cut(use, " ")
		return &cobra.Command{
			Use: use, Short: short,
			Args: func(c *cobra.Command, args []string) error {
				if (argument != "") != (len(args) == 1) || len(args) > 1 {
					return usage{fmt.Errorf("write %s %s", c.CommandPath(), argument)}
				}
				return nil
			},
			RunE: func(cmd *cobra.Command, args []string) error {
				o.what = strings.Join(args, "")
				config, err := readConfig(o.config)
				if err != nil {
					return err
				}
				config.AcceptStale = o.stale
				return do(cmd.Context(), u, config, o)
			},
		}
	}
	open := with("open <node>@<host>:<port>", "Open a channel with money of the wallet, and wait until it takes payments", openChannel)
	open.Example = "  coinop channel open -c seller.toml 02ab…@203.0.113.7:9735 --capacity 1000000sat"
	open.Flags().StringVar(&o.capacity, "capacity", "1000000sat", "how much of the wallet's money goes into it")
	open.Flags().StringVar(&o.push, "push", "0sat", "how much of that is the peer's from the start: a gift")
	open.Flags().BoolVar(&o.public, "public", false, "announce it, so that others route over it")
	closing := with("close <channel or peer>", "Close a channel, or all with a peer, and wait until that is mined", closeChannel)
	closing.Long = "A channel is named by its ID or the first digits of it, its short channel id, or its funding output; a peer by its key,\nor by <node>@<host>:<port> if it has moved."
	closing.Flags().BoolVar(&o.force, "force", false, "without the peer: our money is locked for some time, and the fee is ours")
	for _, c := range []*cobra.Command{open, closing} {
		c.Flags().BoolVar(&o.now, "no-wait", false, "do not wait for the chain")
		staleFlag(c, &o.stale)
		c.Flags().DurationVar(&o.timeout, "timeout", time.Hour, "give up waiting after this long; what was begun goes on while the machine runs")
	}
	c.AddCommand(open, closing, with("list", "List the channels, what can be sent and received, and what is at risk", listChannels))
	return c
}

// A desk is where a machine's channels are asked for: in this process, or in the
// one that runs the machine.
type desk interface {
	summary(ctx context.Context) (node.Summary, error)
	open(ctx context.Context, o channelOrder) (begun, error)
	close(ctx context.Context, o channelOrder) ([]node.ChannelSummary, error)
}

// begun is a channel whose funding transaction is published.
type begun struct {
	Channel string `json:"channel"`
	Funding string `json:"funding"`
}

// channelDesk opens the machine, or if it runs already finds it.
func (u *ui) channelDesk(ctx context.Context, config Config) (d desk, done func(), err error) {
	listen := config.Listen
	config.Listen = "" // it is not to be paid now
	s, err := openStation(context.WithoutCancel(ctx), config, nil, u.log(config.Name))
	config.Listen = listen
	if errors.Is(err, store.ErrLocked) {
		d, err := asked(config, err)
		return d, func() {}, err
	}
	if err != nil {
		return nil, nil, err
	}
	opening, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if err = s.synced(opening); err != nil {
		err = exit{err, exitConnect}
	} else {
		err = lnrail.Start(opening, config.lightning(), s.Engine)
	}
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return local{s}, func() { s.Close() }, nil
}

// asked is a machine that another process runs.
func asked(config Config, locked error) (desk, error) {
	if config.HTTP == "" {
		return nil, exit{fmt.Errorf("%w; stop the machine, or give its config an http address, where it is asked while it runs", locked), exitConnect}
	}
	r, err := config.running()
	return remote{r}, err
}

// lightning is the first Lightning rail of the config: it says how the node is
// set up.
func (c *Config) lightning() *url.URL {
	for _, text := range c.Rails {
		if u, err := rail.Default.Parse(text); err == nil && u.Scheme == lnrail.Scheme {
			return u
		}
	}
	return &url.URL{Scheme: lnrail.Scheme}
}

// parse checks what channel open is asked for.
func (o *channelOrder) parse() (n node.Open, addr string, err error) {
	if n.Peer, addr, err = engine.Address(o.what); err != nil {
		return n, "", usage{err}
	}
	capacity, err := money.ParseAmount(o.capacity)
	if err != nil {
		return n, "", usage{fmt.Errorf("--capacity: %w", err)}
	}
	if n.Push, err = money.ParseAmount(firstOf(o.push, "0sat")); err != nil {
		return n, "", usage{fmt.Errorf("--push: %w", err)}
	}
	if n.Push > capacity {
		return n, "", usage{fmt.Errorf("--push is %v, which is more than --capacity, %v", n.Push, capacity)}
	}
	n.Capacity, n.Public = capacity.Sats(), o.public
	return n, addr, nil
}

// local is the machine in this process.
type local struct{ *station }

func (l local) summary(ctx context.Context) (node.Summary, error) {
	s, err := lnrail.Summary(ctx, l.Engine)
	if s.Node == (keys.Public{}) { // no rail of it is Lightning's
		s.Node, s.Sentence = l.Key.Public(), "this machine has no Lightning node: name lightning: among its rails"
	}
	return s, err
}

// reaching is how long a peer has to answer.
const reaching = 20 * time.Second

func (l local) open(ctx context.Context, o channelOrder) (b begun, err error) {
	n, addr, err := o.parse()
	if err != nil {
		return b, err
	}
	near, stop := context.WithTimeout(ctx, reaching)
	defer stop()
	if err := lnrail.Reach(near, l.Engine, n.Peer, addr); err != nil {
		return b, exit{err, exitConnect}
	}
	opened, err := lnrail.OpenChannel(ctx, l.Engine, n)
	if errors.Is(err, tx.ErrFunds) {
		err = fmt.Errorf("%w; pay some to %s", err, walletAddress(l.Wallet().Public()))
	}
	return begun{opened.ID.String(), opened.Point.String()}, err
}

func (l local) close(ctx context.Context, o channelOrder) ([]node.ChannelSummary, error) {
	s, err := l.summary(ctx)
	if err != nil {
		return nil, err
	}
	list, err := lnrail.Find(s, o.what)
	if err != nil {
		return nil, exit{err, exitNotFound}
	}
	near, stop := context.WithTimeout(ctx, reaching)
	defer stop()
	if peer, addr, err := engine.Address(o.what); err == nil && !o.force {
		if err := lnrail.Reach(near, l.Engine, peer, addr); err != nil {
			return nil, exit{err, exitConnect}
		}
	}
	return list, lnrail.Close(near, l.Engine, list, o.force)
}

// remote is the machine that coinop serve runs, by the address of its API.
type remote struct{ *running }

func (r remote) summary(ctx context.Context) (s node.Summary, err error) {
	return s, r.call(ctx, "GET", "/v1/channels", nil, &s)
}

func (r remote) open(ctx context.Context, o channelOrder) (b begun, err error) {
	values := url.Values{"peer": {o.what}, "capacity": {o.capacity}, "push": {o.push}, "public": {strconv.FormatBool(o.public)}}
	return b, r.call(ctx, "POST", "/v1/channels", values, &b)
}

func (r remote) close(ctx context.Context, o channelOrder) (list []node.ChannelSummary, err error) {
	values := url.Values{"channel": {o.what}, "force": {strconv.FormatBool(o.force)}}
	return list, r.call(ctx, "POST", "/v1/channels/close", values, &list)
}

func openChannel(ctx context.Context, u *ui, config Config, o channelOrder) error {
	if _, _, err := o.parse(); err != nil {
		return err
	}
	d, done, err := u.channelDesk(ctx, config)
	if err != nil {
		return err
	}
	defer done()
	ctx, stop := context.WithTimeout(ctx, o.timeout)
	defer stop()
	opened, err := d.open(ctx, o)
	if err != nil {
		return err
	}
	id := opened.Channel
	u.progress("%.12s is funded by %s, which is published", id, opened.Funding)
	result := map[string]any{"channel": id, "funding": opened.Funding, "usable": false}
	if !o.now {
		last := ""
		err := lnrail.Watch(ctx, d.summary, func(s node.Summary) bool {
			for _, c := range s.Channels {
				if c.Channel != id {
					continue
				}
				if c.Usable {
					result["usable"], result["liquidity"] = true, s.Sentence
					return true
				}
				if at := fmt.Sprintf("%s, %d confirmations", c.State, c.Depth); at != last {
					last = at
					u.progress("%.12s is %s", id, at)
				}
			}
			return false
		})
		if err != nil {
			return fmt.Errorf("channel %s is not usable yet, and goes on opening while the machine runs: %w", id, err)
		}
	}
	return u.show(result, func(w io.Writer) {
		fmt.Fprintf(w, "channel %s\n", id)
		if words, ok := result["liquidity"]; ok {
			fmt.Fprintf(w, "%v\n", words)
		}
	})
}

// progress tells a person how something goes.
func (u *ui) progress(format string, args ...any) {
	if !u.json {
		fmt.Fprintf(u.err, format+"\n", args...)
	}
}

func closeChannel(ctx context.Context, u *ui, config Config, o channelOrder) error {
	d, done, err := u.channelDesk(ctx, config)
	if err != nil {
		return err
	}
	defer done()
	ctx, stop := context.WithTimeout(ctx, o.timeout)
	defer stop()
	list, err := d.close(ctx, o)
	if err != nil {
		return err
	}
	mine := map[string]bool{}
	var names []string
	for _, c := range list {
		mine[c.Channel] = true
		names = append(names, c.Channel)
	}
	result := map[string]any{"channels": names, "closed": false}
	if !o.now {
		last := ""
		err := lnrail.Watch(ctx, d.summary, func(s node.Summary) bool {
			left, at := 0, ""
			for _, c := range s.Channels {
				if mine[c.Channel] && !lnrail.Over(&c) {
					left++
					at += fmt.Sprintf("%.12s is %s; ", c.Channel, c.State)
				}
			}
			if at != last {
				last = at
				u.progress("%s", strings.TrimSuffix(at, "; "))
			}
			return left == 0
		})
		if err != nil {
			return fmt.Errorf("not closed yet; the closing goes on while the machine runs: %w", err)
		}
		result["closed"] = true
	}
	return u.show(result, func(w io.Writer) {
		switch {
		case o.now:
			fmt.Fprintln(w, "the closing has begun")
		case o.force:
			fmt.Fprintln(w, "closed on the chain; keep the machine running until what is yours is in the wallet")
		default:
			fmt.Fprintln(w, "closed, and mined")
		}
	})
}

// listChannels reads the store itself if no machine runs on it, and connects to
// nobody.
func listChannels(ctx context.Context, u *ui, config Config, _ channelOrder) error {
	s, err := peek(ctx, config)
	if err != nil {
		return err
	}
	return u.show(s, func(w io.Writer) { tableOf(w, s) })
}

func peek(ctx context.Context, config Config) (s node.Summary, err error) {
	key, err := config.LoadKey()
	if err != nil {
		return s, err
	}
	db, err := store.Default.Open(config.StoreURI())
	if errors.Is(err, store.ErrLocked) {
		d, err := asked(config, err)
		if err != nil {
			return s, err
		}
		return d.summary(ctx)
	}
	if err != nil {
		return s, err
	}
	defer db.Close()
	return lnrail.Peek(config.lightning(), db, key)
}

func tableOf(w io.Writer, s node.Summary) {
	fmt.Fprintln(w, s.Sentence)
	if len(s.Channels) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "channel\tpeer\tstate\tcapacity\tsend\treceive\tat risk")
	for _, c := range s.Channels {
		state := c.State
		if c.State == "open" && !c.Usable {
			state = "open, away"
		}
		fmt.Fprintf(t, "%.12s\t%.12s\t%s\t%d sat\t%v\t%v\t%v\n", c.Channel, c.Peer, state, c.Capacity, c.Spendable, c.Receivable, c.Dust)
	}
	t.Flush()
	for _, c := range s.Channels {
		if c.Unguarded > 0 {
			fmt.Fprintf(w, "\n%.12s: the watchtower lacks %d revoked commitments; it is told when it can be reached\n", c.Channel, c.Unguarded)
		}
	}
	fmt.Fprintf(w, "\nat risk in all: %v in flight that the chain cannot enforce; the limit is %v in each channel\n", s.Dust, s.MaxDust)
}
