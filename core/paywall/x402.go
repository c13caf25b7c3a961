package paywall

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Headers of x402, version 2 (specs/transports-v2/http.md), and the one by which
// clients of version 1 pay.
const (
	X402Required  = "Payment-Required"
	X402Signature = "Payment-Signature"
	X402Response  = "Payment-Response"
	X402Legacy    = "X-Payment"

	x402Version = 2
)

// An X402Offer is what Payment-Required carries.
type X402Offer struct {
	Version  int               `json:"x402Version"`
	Error    string            `json:"error,omitempty"`
	Resource X402Resource      `json:"resource"`
	Accepts  []X402Requirement `json:"accepts"`
}

// An X402Resource is what is sold.
type X402Resource struct {
	URL         string `json:"url"`
	Description string `json:"description,omitempty"`
	MimeType    string `json:"mimeType,omitempty"`
}

// An X402Requirement is one way to pay.
type X402Requirement struct {
	Scheme  string `json:"scheme"`  // exact
	Network string `json:"network"` // CAIP-2: eip155:8453
	Amount  string `json:"amount"`  // in the asset's smallest unit
	Asset   string `json:"asset"`
	PayTo   string `json:"payTo"`
	Timeout int    `json:"maxTimeoutSeconds"`
	// Extra comes back in the payment; the shop's token is in it.
	Extra map[string]string `json:"extra,omitempty"`
}

// An X402Payment is what Payment-Signature carries.
type X402Payment struct {
	Version  int             `json:"x402Version"`
	Accepted X402Requirement `json:"accepted"`
	Scheme   string          `json:"scheme,omitempty"`  // version 1 has these
	Network  string          `json:"network,omitempty"` // instead of accepted
	Payload  json.RawMessage `json:"payload"`
}

// An X402Settlement is what Payment-Response carries.
type X402Settlement struct {
	Success     bool   `json:"success"`
	ErrorReason string `json:"errorReason,omitempty"`
	Transaction string `json:"transaction"`
	Network     string `json:"network"`
	Payer       string `json:"payer,omitempty"`
}

// Header is the value of Payment-Required.
func (o X402Offer) Header() string {
	o.Version = x402Version
	return x402Text(o)
}

// Header is the value of Payment-Signature.
func (p X402Payment) Header() string { return x402Text(p) }

// Header is the value of Payment-Response.
func (s X402Settlement) Header() string { return x402Text(s) }

func x402Text(v any) string { return base64.StdEncoding.EncodeToString(canonical(v)) }

// readX402 reads Payment-Signature, or X-Payment of version 1.
func readX402(text string) (p X402Payment, err error) {
	if len(text) > MaxCredential {
		return p, fmt.Errorf("the x402 payment is %d characters; the limit is %d", len(text), MaxCredential)
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return p, errors.New("the x402 payment is not base64")
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("the x402 payment is not what it should be: %w", err)
	}
	switch p.Version {
	case 1:
		p.Accepted = X402Requirement{Scheme: p.Scheme, Network: p.Network}
	case x402Version:
	default:
		return p, fmt.Errorf("the x402 payment is of version %d; 1 and %d are read", p.Version, x402Version)
	}
	if p.Accepted.Scheme == "" || p.Accepted.Network == "" || len(p.Payload) == 0 {
		return p, errors.New("the x402 payment names no scheme, no network or no payload")
	}
	return p, nil
}
