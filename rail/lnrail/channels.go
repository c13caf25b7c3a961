package lnrail

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/world/drive"
)

// Start opens the node of a machine as a rail's URI says, and no channel.
func Start(ctx context.Context, u *url.URL, m *engine.Machine) error {
	if m.Chain == nil {
		return errors.New("a Lightning channel is funded on a chain; configure one")
	}
	s, err := read(u, m.Key)
	if err != nil {
		return err
	}
	return start(ctx, m, s)
}

// Peek reads a node from the store of a machine that does not run.
func Peek(u *url.URL, db step.Reader, key keys.Secret) (node.Summary, error) {
	s, err := read(u, key)
	if err != nil {
		return node.Summary{}, err
	}
	n, err := node.Load(db, key, s.node)
	if err != nil {
		return node.Summary{}, err
	}
	return n.Summary(), nil
}

// Find lists the channels that a person means: by a channel's ID or the beginning
// of it, by its short channel id, by its funding outpoint, or by the key of the
// peer, with which all channels are meant. Those that are over are left out.
func Find(s node.Summary, name string) (list []node.ChannelSummary, err error) {
	peer, _, _ := strings.Cut(name, "@")
	byID := 0
	for _, c := range s.Channels {
		prefix := len(name) >= minPrefix && strings.HasPrefix(c.Channel, name)
		if prefix {
			byID++
		}
		if Over(&c) || !prefix && name != c.SCID && name != c.Funding && peer != c.Peer.String() {
			continue
		}
		list = append(list, c)
	}
	switch {
	case len(list) == 0:
		return nil, fmt.Errorf("%w called %.80q", ErrNoChannel, name)
	case byID > 1:
		return nil, fmt.Errorf("%d channels begin with %.80q; write more of it", byID, name)
	}
	return list, nil
}

// ErrNoChannel says that a name is no channel's.
var ErrNoChannel = errors.New("no open channel is")

// minPrefix is how many digits name a channel.
const minPrefix = 6

// Over reports whether the chain has the end of a channel.
func Over(c *node.ChannelSummary) bool { return c.State == "closed" || c.SpendDepth > 0 }

// Close begins to close channels: with their peers, or alone if force is set. It
// returns when they have begun, or says why one cannot.
func Close(ctx context.Context, m *engine.Machine, list []node.ChannelSummary, force bool) error {
	if !force {
		if err := reachAll(ctx, m, list); err != nil {
			return err
		}
	}
	for _, c := range list {
		if err := begin(ctx, m, c.Channel, force); err != nil {
			return err
		}
	}
	return nil
}

// begin begins to close one channel. Only a refusal is answered, so it watches
// for a while what the channel does.
func begin(ctx context.Context, m *engine.Machine, channel string, force bool) error {
	var id wire.ChannelID
	if _, err := hex.Decode(id[:], []byte(channel)); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, beginning)
	defer stop()
	wait, err := m.Host.Await(node.Name, node.CloseID+id.String())
	if err != nil {
		return err
	}
	refused := make(chan error, 1)
	go func() {
		_, err := wait(ctx)
		if ctx.Err() == nil {
			refused <- err
		}
	}()
	if err := m.Host.Tell(ctx, node.Name, node.Close{ID: id, Force: force}); err != nil {
		return err
	}
	ask := func(ctx context.Context) (node.Summary, error) { return Summary(ctx, m) }
	err = Watch(ctx, ask, func(s node.Summary) bool {
		list, _ := Find(s, channel)
		return len(refused) > 0 || len(list) == 0 || list[0].State != "open" && list[0].State != "pending"
	})
	select {
	case err := <-refused:
		return err
	default:
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // it takes its time
	}
	return err
}

// beginning is how long a closing has to begin.
const beginning = 2 * time.Second

// reachAll connects to the peers of channels where they were last found.
func reachAll(ctx context.Context, m *engine.Machine, list []node.ChannelSummary) error {
	var contacts []node.Contact
	if err := m.Host.Do(ctx, func(machine *drive.Machine) {
		contacts = machine.Core(node.Name).(*node.Node).Contacts()
	}); err != nil {
		return err
	}
	linked := map[keys.Public]bool{}
	for _, p := range m.Peers() {
		linked[p.Key] = p.Link != 0
	}
	for _, c := range list {
		for _, k := range contacts {
			if k.Peer != c.Peer || linked[k.Peer] {
				continue
			}
			if k.Address == "" {
				return fmt.Errorf("nobody knows where %s is; write %s@<host>:<port>, or close with --force", c.Peer, c.Peer)
			}
			if err := Reach(ctx, m, k.Peer, k.Address); err != nil {
				return fmt.Errorf("%w; without its peer a channel is closed with --force", err)
			}
		}
	}
	return nil
}

// Watch tells about the node again and again, whenever something has changed,
// until done says so.
func Watch(ctx context.Context, ask func(context.Context) (node.Summary, error), done func(node.Summary) bool) error {
	for {
		s, err := ask(ctx)
		if err != nil || done(s) {
			return err
		}
		select {
		case <-time.After(watchEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const watchEvery = 100 * time.Millisecond
