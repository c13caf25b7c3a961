package electrum

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
)

// The codes of errors: JSON-RPC 2.0's, and those that Electrum servers have
// taken for the rest.
const (
	codeParse    = -32700
	codeRequest  = -32600
	codeMethod   = -32601
	codeParams   = -32602
	codeInternal = -32603
	codeRefused  = 1 // the request cannot be met: unknown, spent, refused
	codeTooMuch  = -101
	codeBusy     = -102
)

// A fault is what a server answers instead of a result.
type fault struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func refuse(code int, format string, args ...any) *fault {
	return &fault{code, fmt.Sprintf(format, args...)}
}

// maxID bounds the id of a request in bytes: it is sent back.
const maxID = 64

// A request is one call.
type request struct {
	ID     json.RawMessage
	Method string
	Params json.RawMessage // an array, an object, or nothing
}

// parseRequests reads one line: a call, or an array of them. A call that is none
// has an empty method.
func parseRequests(line []byte) (calls []request, batch bool, no *fault) {
	line = bytes.TrimSpace(line)
	if !bytes.HasPrefix(line, []byte("[")) {
		var one request
		if !json.Valid(line) {
			return nil, false, refuse(codeParse, "not JSON")
		}
		if json.Unmarshal(line, &one) != nil {
			return nil, false, refuse(codeRequest, "not a JSON-RPC call")
		}
		return []request{one}, false, nil
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(line, &raw); err != nil {
		return nil, true, refuse(codeParse, "not JSON")
	}
	if len(raw) == 0 {
		return nil, true, refuse(codeRequest, "an empty batch")
	}
	if len(raw) > MaxBatch {
		return nil, true, refuse(codeTooMuch, "%d calls in a batch; the limit is %d", len(raw), MaxBatch)
	}
	calls = make([]request, len(raw))
	for i, r := range raw {
		if json.Unmarshal(r, &calls[i]) != nil {
			calls[i] = request{}
		}
	}
	return calls, true, nil
}

// id is the id to answer with: a number or a string, or null for one that is
// neither.
func (r request) id() json.RawMessage {
	if len(r.ID) == 0 || len(r.ID) > maxID || r.ID[0] == '{' || r.ID[0] == '[' {
		return json.RawMessage("null")
	}
	return r.ID
}

// args puts the parameters into the order of their names.
func (r request) args(names []string) (args, *fault) {
	params := bytes.TrimSpace(r.Params)
	switch {
	case len(params) == 0 || string(params) == "null":
		return make(args, len(names)), nil
	case params[0] == '[':
		var list []json.RawMessage
		if err := json.Unmarshal(params, &list); err != nil || len(list) > len(names) {
			return nil, refuse(codeParams, "%s takes %d parameters at most", r.Method, len(names))
		}
		return append(list, make(args, len(names)-len(list))...), nil
	}
	var named map[string]json.RawMessage
	if err := json.Unmarshal(params, &named); err != nil {
		return nil, refuse(codeParams, "parameters are an array or an object")
	}
	list := make(args, len(names))
	for name, value := range named {
		i := slices.Index(names, name)
		if i < 0 {
			return nil, refuse(codeParams, "%s has the parameters %q only", r.Method, names)
		}
		list[i] = value
	}
	return list, nil
}

// args are the parameters of a call; one that is absent is empty.
type args []json.RawMessage

func (a args) text(i int, what string) (text string, no *fault) {
	if json.Unmarshal(a[i], &text) != nil {
		return "", refuse(codeParams, "%s is a string", what)
	}
	return text, nil
}

func (a args) hash(i int, what string) (h chainhash.Hash, no *fault) {
	text, no := a.text(i, what)
	if no != nil {
		return h, no
	}
	h, err := parseHash(text)
	if err != nil {
		return h, refuse(codeParams, "%s: %v", what, err)
	}
	return h, nil
}

// number is a height or a count, 0 if it is absent and need not be there.
func (a args) number(i int, what string, needed bool) (n int32, no *fault) {
	if a.absent(i) && !needed {
		return 0, nil
	}
	if a.absent(i) || json.Unmarshal(a[i], &n) != nil || n < 0 {
		return 0, refuse(codeParams, "%s is a whole number from 0 to %d", what, int32(1)<<30)
	}
	return n, nil
}

func (a args) flag(i int, what string) (on bool, no *fault) {
	if !a.absent(i) && json.Unmarshal(a[i], &on) != nil {
		return false, refuse(codeParams, "%s is true or false", what)
	}
	return on, nil
}

// bytes reads hexadecimal digits, at most so many bytes.
func (a args) bytes(i int, what string, most int) ([]byte, *fault) {
	text, no := a.text(i, what)
	if no != nil {
		return nil, no
	}
	return unhex(text, what, most)
}

func unhex(text, what string, most int) ([]byte, *fault) {
	if len(text) > 2*most {
		return nil, refuse(codeTooMuch, "%s has %d digits; the limit is %d", what, len(text), 2*most)
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, refuse(codeParams, "%s is not hexadecimal", what)
	}
	return raw, nil
}

func (a args) absent(i int) bool { return len(a[i]) == 0 || string(a[i]) == "null" }
