package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
)

// The events are of ours: a client says {"action":"subscribe","topic":"..."}, or
// "unsubscribe", or "ping", and hears {"ack":"subscribe","topic":"..."} or an error
// with the topic. An event is {"topic":"...","payload":...}. The topics and payloads
// are those of HORNET's MQTT; what is bytes there is 0x and hex here.
const (
	// MaxSockets bounds the clients that hear events.
	MaxSockets = 256
	// MaxTopics bounds the topics that one of them hears, maxHeard those of all.
	MaxTopics = 10_000
	maxHeard  = 200_000
	// MaxQueued bounds the messages that wait for one of them. One more ends its
	// connection: a client that knows that it has missed something asks again.
	MaxQueued = 2048
	// MaxNews bounds what of the node's news waits to be told.
	MaxNews = 16_384
	// maxSaid bounds what a client says, in bytes.
	maxSaid = 4096
	// sayTime is how long a client may take for one message.
	sayTime = 10 * time.Second
)

// Topics. Those that end in a slash are followed by what they are about.
const (
	topicLatest     = "milestone-info/latest"
	topicConfirmed  = "milestone-info/confirmed"
	topicMilestone  = "milestones"
	topicBlocks     = "blocks" // as they are attached
	topicReferenced = "block-metadata/referenced"
	topicMetadata   = "block-metadata/"
	topicIncluded   = "transactions/" // and included behind the ID
	topicOutput     = "outputs/"
	topicUnlock     = "outputs/unlock/address/" // and perhaps spent behind the address

	included = "/included-block"
	spent    = "/spent"
)

// A topic is one that a client may hear.
type topic struct {
	name string
	kind string
	// Of what it is about, one is not zero.
	block  tangle.BlockID
	tx     tangle.TransactionID
	output tangle.OutputID
}

var errTopic = errors.New("there is no such topic")

// readTopic reads a topic on a network whose addresses begin with hrp.
func readTopic(name, hrp string) (t topic, err error) {
	t.name = name
	switch {
	case name == topicLatest, name == topicConfirmed, name == topicMilestone, name == topicBlocks, name == topicReferenced:
		t.kind = name
	case strings.HasPrefix(name, topicMetadata):
		t.kind = topicMetadata
		err = t.block.UnmarshalText([]byte(name[len(topicMetadata):]))
	case strings.HasPrefix(name, topicIncluded) && strings.HasSuffix(name, included):
		t.kind = topicIncluded
		err = t.tx.UnmarshalText([]byte(strings.TrimPrefix(strings.TrimSuffix(name, included), topicIncluded)))
	case strings.HasPrefix(name, topicUnlock):
		t.kind = topicUnlock
		_, err = tangle.ParseAddress(hrp, strings.TrimSuffix(name[len(topicUnlock):], spent))
	case strings.HasPrefix(name, topicOutput):
		t.kind = topicOutput
		err = t.output.UnmarshalText([]byte(name[len(topicOutput):]))
	default:
		err = errTopic
	}
	return t, err
}

// sockets are the clients.
type sockets struct {
	mu      sync.Mutex
	all     map[*socket]bool
	hear    map[string]map[*socket]bool // by topic
	kinds   [len(kinds)]int             // topics that somebody hears
	heard   int                         // together
	closed  bool
	serving sync.WaitGroup

	watching sync.Mutex // held from when it is seen who hears what until the node knows
}

// kinds are those that a milestone is read for.
var kinds = [...]string{topicReferenced, topicMetadata, topicIncluded, topicOutput, topicUnlock}

// A socket is one client.
type socket struct {
	s      *Server
	say    chan []byte
	stop   context.CancelFunc
	topics map[string]topic // of sockets.mu
}

// events serves one client.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if wait := s.Take(network(r), time.Now()); wait > 0 {
		s.write(w, tooMany)
		return
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	defer context.AfterFunc(s.ctx, stop)()
	k := &socket{s: s, say: make(chan []byte, MaxQueued), stop: stop, topics: map[string]topic{}}
	if !s.sockets.add(k) {
		s.write(w, tooBusy)
		return
	}
	defer s.rewatch()
	defer s.sockets.remove(k)
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: s.AnyOrigin})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxSaid)
	written := make(chan struct{})
	go func() {
		defer close(written)
		k.write(ctx, conn)
	}()
	k.read(ctx, conn)
	stop()
	<-written
}

func (a *sockets) add(k *socket) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.all) >= MaxSockets {
		return false
	}
	a.serving.Add(1)
	a.all[k] = true
	return true
}

func (a *sockets) remove(k *socket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range k.topics {
		a.leave(k, t)
	}
	delete(a.all, k)
	a.serving.Done()
}

// join has a client hear a topic.
func (a *sockets) join(k *socket, t topic) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := k.topics[t.name]; ok {
		return nil
	}
	if len(k.topics) >= MaxTopics || a.heard >= maxHeard {
		return fmt.Errorf("no more topics can be heard; the limit is %d for one client and %d for all", MaxTopics, maxHeard)
	}
	k.topics[t.name] = t
	if a.hear[t.name] == nil {
		a.hear[t.name] = map[*socket]bool{}
	}
	a.hear[t.name][k] = true
	a.heard++
	a.count(t, 1)
	return nil
}

// leave is called with mu held.
func (a *sockets) leave(k *socket, t topic) {
	delete(k.topics, t.name)
	delete(a.hear[t.name], k)
	if len(a.hear[t.name]) == 0 {
		delete(a.hear, t.name)
	}
	a.heard--
	a.count(t, -1)
}

func (a *sockets) count(t topic, n int) {
	for i := range kinds {
		if kinds[i] == t.kind {
			a.kinds[i] += n
		}
	}
}

// wanted reports whether somebody hears a topic of one of the kinds.
func (a *sockets) wanted(of ...string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range kinds {
		for _, kind := range of {
			if kinds[i] == kind && a.kinds[i] > 0 {
				return true
			}
		}
	}
	return false
}

// rewatch has the node tell what somebody hears.
func (s *Server) rewatch() {
	s.sockets.watching.Lock()
	defer s.sockets.watching.Unlock()
	s.news.Want(node.Watch{Blocks: s.sockets.hears(topicBlocks)})
}

// hears reports whether somebody hears a topic.
func (a *sockets) hears(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hear[name] != nil
}

// close waits until all are gone, who have been told to go.
func (a *sockets) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.serving.Wait()
}

// cut ends all connections: all have missed something.
func (a *sockets) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.all {
		k.stop()
	}
}

// An event is one of a topic.
type event struct {
	Topic   string `json:"topic"`
	Payload any    `json:"payload"`
}

// tell tells all who hear a topic.
func (s *Server) tell(name string, payload any) {
	if !s.sockets.hears(name) {
		return
	}
	raw, err := json.Marshal(event{name, payload})
	if err != nil {
		s.Log.Error("Tangle events", "err", err)
		return
	}
	s.sockets.mu.Lock()
	defer s.sockets.mu.Unlock()
	for k := range s.sockets.hear[name] {
		k.send(raw)
	}
}

// send queues a message, or ends the connection of one who does not read.
func (k *socket) send(message []byte) {
	select {
	case k.say <- message:
	default:
		k.stop()
	}
}

// reply queues what a client has asked for; it is not heard again before there is room.
func (k *socket) reply(ctx context.Context, message []byte) {
	select {
	case k.say <- message:
	case <-ctx.Done():
	}
}

func (k *socket) write(ctx context.Context, conn *websocket.Conn) {
	defer k.stop()
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-k.say:
			timed, cancel := context.WithTimeout(ctx, sayTime)
			err := conn.Write(timed, websocket.MessageText, message)
			cancel()
			if err != nil {
				return
			}
		}
	}
}

// said is what a client says.
type said struct {
	Action string `json:"action"`
	Topic  string `json:"topic"`
}

// answer is what it hears of that.
type answer struct {
	Ack   string     `json:"ack,omitempty"`
	Error *jsonFault `json:"error,omitempty"`
	Topic string     `json:"topic,omitempty"`
}

func (k *socket) read(ctx context.Context, conn *websocket.Conn) {
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			return
		}
		var v said
		if err := json.Unmarshal(message, &v); err != nil {
			conn.Close(websocket.StatusUnsupportedData, "not JSON")
			return
		}
		a := answer{Ack: v.Action, Topic: v.Topic}
		t, err := k.told(v)
		if t.kind == topicBlocks {
			k.s.rewatch()
		}
		if err != nil {
			a = answer{Error: &jsonFault{Code: "400", Message: fmt.Sprintf("%.300s", err)}, Topic: v.Topic}
		}
		raw, err := json.Marshal(a)
		if err != nil {
			return
		}
		k.reply(ctx, raw)
		if a.Ack == "subscribe" {
			k.s.tellNow(ctx, k, t)
		}
	}
}

// told does what a client says.
func (k *socket) told(v said) (t topic, err error) {
	if v.Action == "ping" {
		return t, nil
	}
	if t, err = readTopic(v.Topic, k.s.hrp()); err != nil {
		return t, err
	}
	switch v.Action {
	case "subscribe":
		return t, k.s.sockets.join(k, t)
	case "unsubscribe":
		k.s.sockets.mu.Lock()
		defer k.s.sockets.mu.Unlock()
		if _, ok := k.topics[t.name]; ok {
			k.s.sockets.leave(k, t)
		}
		return t, nil
	}
	return t, fmt.Errorf("action %.30q is not known", v.Action)
}
