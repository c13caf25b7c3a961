package peers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
)

// A Bitcoind answers JSON-RPC as Bitcoin Core does, out of a btcd, for programs
// that know only the one: btcd refuses calls without "jsonrpc", and some of its
// answers have other shapes. It knows what LDK Node asks for.
type Bitcoind struct {
	Addr   string // where it listens; user and password are btcd's
	chain  *Btcd
	server http.Server
}

// StartBitcoind serves until Close.
func StartBitcoind(chain *Btcd) (*Bitcoind, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Bitcoind{Addr: l.Addr().String(), chain: chain}
	b.server = http.Server{Handler: http.HandlerFunc(b.serve), ReadHeaderTimeout: patience}
	go b.server.Serve(l)
	return b, nil
}

// Close ends it.
func (b *Bitcoind) Close() error { return b.server.Close() }

// Codes of errors that callers tell apart.
const (
	codeMisc     = -1
	codeNotFound = -5
	codeNoMethod = -32601
)

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return e.Message }

const maxRequest = 8 << 20 // bytes: a transaction of a whole block, in hex

func (b *Bitcoind) serve(w http.ResponseWriter, r *http.Request) {
	if user, pass, _ := r.BasicAuth(); user != rpcUser || pass != rpcPass {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var call struct {
		ID     json.RawMessage
		Method string
		Params []json.RawMessage
	}
	var reply struct {
		Result any             `json:"result"`
		Error  *rpcError       `json:"error"`
		ID     json.RawMessage `json:"id"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&call); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	result, err := b.call(call.Method, call.Params)
	reply.Result, reply.ID = result, call.ID
	if err != nil && !errors.As(err, &reply.Error) {
		reply.Error = &rpcError{codeMisc, err.Error()}
	}
	body, err := json.Marshal(reply)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	// Never in chunks: not every client of Bitcoin Core reads those.
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if reply.Error != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
	w.Write(body)
}

// feeRate is what waits for no block here, in BTC per 1000 virtual bytes.
const feeRate = 0.00001

func (b *Bitcoind) call(method string, params []json.RawMessage) (any, error) {
	switch method {
	case "getblockchaininfo", "getblockhash", "getbestblockhash", "getblock", "getrawmempool", "gettxout", "sendrawtransaction":
		return b.pass(method, params...)
	case "getblockheader":
		return b.header(params)
	case "getrawtransaction":
		v, err := b.pass(method, params...)
		if err != nil { // it has no other reason
			err = &rpcError{codeNotFound, err.Error()}
		}
		return v, err
	case "estimatesmartfee":
		return map[string]any{"feerate": feeRate, "blocks": 1}, nil
	case "getmempoolinfo":
		return map[string]any{"loaded": true, "mempoolminfee": feeRate, "minrelaytxfee": feeRate}, nil
	case "getmempoolentry":
		return b.entry(params)
	}
	return nil, &rpcError{codeNoMethod, fmt.Sprintf("%s is not served here", method)}
}

func (b *Bitcoind) pass(method string, params ...json.RawMessage) (v json.RawMessage, err error) {
	all := make([]any, len(params))
	for i, p := range params {
		all[i] = p
	}
	return v, b.chain.Call(method, &v, all...)
}

// header adds what btcd leaves out: the work below, of a chain whose every
// block is worth two hashes.
func (b *Bitcoind) header(params []json.RawMessage) (any, error) {
	raw, err := b.pass("getblockheader", params...)
	if err != nil {
		return nil, &rpcError{codeNotFound, err.Error()}
	}
	var v map[string]any
	if err := json.Unmarshal(raw, &v); err != nil {
		return raw, nil // in hex, as asked
	}
	height, _ := v["height"].(float64)
	v["chainwork"] = fmt.Sprintf("%064x", 2*(int64(height)+1))
	return v, nil
}

// entry is what btcd knows of a transaction that waits.
func (b *Bitcoind) entry(params []json.RawMessage) (any, error) {
	var id string
	if len(params) < 1 || json.Unmarshal(params[0], &id) != nil {
		return nil, errors.New("getmempoolentry takes a transaction ID")
	}
	var all map[string]struct {
		Time   int64 `json:"time"`
		Height int64 `json:"height"`
	}
	if err := b.chain.Call("getrawmempool", &all, true); err != nil {
		return nil, err
	}
	e, ok := all[id]
	if !ok {
		return nil, &rpcError{codeNotFound, "not in the mempool"}
	}
	return e, nil
}
