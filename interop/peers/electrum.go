package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// ErrNoElectrum says that Electrum is not installed.
var ErrNoElectrum = errors.New("no Electrum: apt-get install -y --no-install-recommends electrum")

// An Electrum is the wallet, without a window. It asks one server.
type Electrum struct {
	*Process
	Home   string // folder for everything it keeps
	rpc    string
	wallet string
}

// StartElectrum runs the wallet on regtest, with a fresh seed, for one server
// that speaks plain TCP.
func StartElectrum(ctx context.Context, home, server string) (*Electrum, error) {
	path, err := exec.LookPath("electrum")
	if err != nil {
		return nil, ErrNoElectrum
	}
	e := &Electrum{Home: home, wallet: filepath.Join(home, "wallet")}
	if e.rpc, err = FreeAddr(); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(e.rpc)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"config_version": 3, // or it takes the server for one with TLS
		"rpchost":        "127.0.0.1", "rpcport": number, "rpcuser": rpcUser, "rpcpassword": rpcPass,
		"server": server + ":t", "oneserver": true, "auto_connect": false,
		"check_updates": false, "use_exchange_rate": false,
	})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(home, "regtest"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(home, "regtest", "config"), config, 0o600); err != nil {
		return nil, err
	}
	if e.Process, err = start(ctx, "electrum", path, home, "--regtest", "-D", home, "-v", "daemon"); err != nil {
		return nil, err
	}
	args := map[string]any{"wallet_path": e.wallet}
	err = e.await(ctx, "it answers", func() error { return e.Call(new(any), "getinfo", nil) })
	if err == nil {
		err = e.Call(new(any), "create", args)
	}
	if err == nil {
		err = e.Call(new(any), "load_wallet", args)
	}
	if err != nil {
		e.Kill()
		return nil, fmt.Errorf("%w\n%s", err, e.Log())
	}
	return e, nil
}

// Stop ends the wallet by its own command: an interrupt it does not survive in
// peace.
func (e *Electrum) Stop() {
	if err := e.Call(new(any), "stop", nil); err != nil {
		e.Kill()
		return
	}
	select {
	case <-e.done:
	case <-time.After(patience):
		e.Kill()
	}
}

// Call is one command.
func (e *Electrum) Call(result any, method string, params map[string]any) error {
	if params == nil {
		params = map[string]any{}
	}
	body, err := json.Marshal(map[string]any{"id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	ask, err := http.NewRequest(http.MethodPost, "http://"+e.rpc, bytes.NewReader(body))
	if err != nil {
		return err
	}
	ask.SetBasicAuth(rpcUser, rpcPass)
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var got struct {
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		return fmt.Errorf("electrum: %s: %w", method, err)
	}
	if got.Error != nil {
		return fmt.Errorf("electrum: %s: %s", method, got.Error.Message)
	}
	return json.Unmarshal(got.Result, result)
}

// Of is Call for a command about the wallet.
func (e *Electrum) Of(result any, method string, params map[string]any) error {
	if params == nil {
		params = map[string]any{}
	}
	params["wallet"] = e.wallet
	return e.Call(result, method, params)
}
