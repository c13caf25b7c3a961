package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain"
)

const (
	// CallTimeout bounds one call. A busy node may take long for a block.
	CallTimeout = 30 * time.Second

	// Tries bounds how often a call is made that nobody answers.
	Tries = 3

	// MaxAnswer bounds an answer in bytes: a block of four million bytes in hex,
	// and some words around it.
	MaxAnswer = 9 << 20
)

// A node is the other end of the calls.
type node struct {
	options Options
	url     string
	client  http.Client
}

func newNode(o Options) (*node, error) {
	n := &node{options: o, url: "http://" + o.Addr}
	transport := &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute}
	if o.Cert != "" {
		pem, err := os.ReadFile(o.Cert)
		if err != nil {
			return nil, fmt.Errorf("certificate of %s: %w", o.Addr, err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM; btcd writes one to rpc.cert in its folder", o.Cert)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		n.url = "https://" + o.Addr
	}
	n.client = http.Client{Transport: transport, Timeout: CallTimeout}
	return n, nil
}

// A Fault is what a node answers instead of a result.
type Fault struct {
	Code    int
	Message string
}

// Error is the node's message and code.
func (f *Fault) Error() string { return fmt.Sprintf("%.400q (%d)", f.Message, f.Code) }

// The codes that both kinds of node answer (bitcoind's src/rpc/protocol.h,
// btcd's btcjson).
const (
	noMethod    = -32601
	noSuchThing = -5
	noSuchBlock = -8 // bitcoind, for a height that it has not
	noHeight    = -1 // btcd, for the same
	warmingUp   = -28
	badTx       = -22
	txError     = -25
	txRejected  = -26
	txIsThere   = -27
)

func code(err error) int {
	if f := (*Fault)(nil); errors.As(err, &f) {
		return f.Code
	}
	return 0
}

// noBlock tells whether the node has no block at a height.
func noBlock(err error) bool {
	c := code(err)
	return c == noSuchBlock || c == noHeight
}

// refusal tells whether the node has looked at a transaction and not taken it.
func refusal(err error) bool {
	c := code(err)
	return c == badTx || c == txError || c == txRejected || c == txIsThere
}

// call makes one call, and makes it again if nobody answers.
func (n *node) call(ctx context.Context, method string, result any, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "1.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		lost, err := n.once(ctx, body, result)
		if err == nil {
			return nil
		}
		if !lost || try == Tries {
			return fmt.Errorf("node %s: %s: %w", n.options.Addr, method, err)
		}
		select {
		case <-time.After(MinBackoff << (try - 1)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// once reports whether the answer was lost, so that another try may help.
func (n *node) once(ctx context.Context, body []byte, result any) (lost bool, err error) {
	ask, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	user, password, err := n.options.auth()
	if err != nil {
		return false, err
	}
	ask.SetBasicAuth(user, password)
	ask.Header.Set("Content-Type", "application/json")
	answer, err := n.client.Do(ask)
	if err != nil {
		return ctx.Err() == nil, fmt.Errorf("%w: check that a %s runs there and takes RPC, by TLS if and only if there is a cert=", err, n.options.Scheme)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, MaxAnswer+1))
	switch {
	case answer.StatusCode == http.StatusUnauthorized:
		return false, errors.New("wrong user or password: compare auth=<file> or " + AuthEnv + " with the node's configuration")
	case answer.StatusCode == http.StatusForbidden:
		return false, errors.New("the node does not let us in: see rpcallowip in bitcoin.conf")
	case err != nil:
		return ctx.Err() == nil, err
	case len(raw) > MaxAnswer:
		return false, fmt.Errorf("the answer is longer than %d bytes", MaxAnswer)
	}
	var got struct {
		Result json.RawMessage
		Error  *Fault
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		return false, fmt.Errorf("the answer (%s) is not JSON: check that this is the RPC of a %s, which wants a cert= if it speaks TLS", answer.Status, n.options.Scheme)
	}
	if got.Error != nil {
		return false, explain(got.Error, n.options.Scheme)
	}
	if err := json.Unmarshal(got.Result, result); err != nil {
		return false, fmt.Errorf("the result is not what a %s answers: %w", n.options.Scheme, err)
	}
	return false, nil
}

func explain(f *Fault, scheme string) error {
	switch f.Code {
	case noMethod:
		return fmt.Errorf("%w: check that the node is a %s, and not an old one", f, scheme)
	case warmingUp:
		return fmt.Errorf("%w: %w: it has only just been started", chain.ErrSyncing, f)
	}
	return f
}

func (n *node) best(ctx context.Context) (chainhash.Hash, error) {
	return n.hashOf(ctx, "getbestblockhash")
}

func (n *node) hash(ctx context.Context, height int32) (chainhash.Hash, error) {
	h, err := n.hashOf(ctx, "getblockhash", height)
	if noBlock(err) {
		return h, fmt.Errorf("%w: it has no block at height %d: it is still fetching the chain, or from=%d is too high", err, height, n.options.From)
	}
	return h, err
}

func (n *node) hashOf(ctx context.Context, method string, params ...any) (h chainhash.Hash, err error) {
	var text string
	if err := n.call(ctx, method, &text, params...); err != nil {
		return h, err
	}
	got, err := chainhash.NewHashFromStr(text)
	if err != nil {
		return h, fmt.Errorf("node %s: %s: %w", n.options.Addr, method, err)
	}
	return *got, nil
}

func (n *node) height(ctx context.Context, hash chainhash.Hash) (int32, error) {
	var header struct{ Height int32 }
	err := n.call(ctx, "getblockheader", &header, hash.String(), true)
	return header.Height, err
}

func (n *node) block(ctx context.Context, hash chainhash.Hash) (*wire.MsgBlock, error) {
	var text string
	if err := n.call(ctx, "getblock", &text, hash.String(), 0); err != nil {
		return nil, fmt.Errorf("%w: if the node has pruned block %v, raise from=%d", err, hash, n.options.From)
	}
	b := &wire.MsgBlock{}
	raw, err := hex.DecodeString(text)
	if err == nil {
		err = b.Deserialize(bytes.NewReader(raw))
	}
	if err == nil && b.BlockHash() != hash {
		err = fmt.Errorf("it is %v", b.BlockHash())
	}
	if err != nil {
		return nil, fmt.Errorf("node %s: block %v: %w", n.options.Addr, hash, err)
	}
	return b, nil
}

// has tells whether a transaction waits at the node or has an output in the
// chain that is unspent. Only a node with an index knows more.
func (n *node) has(ctx context.Context, t *wire.MsgTx) (bool, error) {
	id := t.TxHash().String()
	err := n.call(ctx, "getrawtransaction", new(string), id, 0)
	if err == nil || code(err) != noSuchThing {
		return err == nil, err
	}
	for i := range t.TxOut {
		var out *struct{ Value float64 }
		if err := n.call(ctx, "gettxout", &out, id, i, false); err != nil || out != nil {
			return out != nil, err
		}
	}
	return false, nil
}
