// Package tpm seals the secret to a TPM 2.0 (TCG, Library Specification 1.38 and
// later) and to the state it was booted in, and counts starts in the TPM.
//
// The sealed secret is in a file. The TPM opens it only if the chosen PCRs have the
// values they had when it was sealed, and if a PIN was set, only with that: wrong
// PINs lock the TPM for a time, so a short one is enough. Other users of the TPM can
// neither open it nor lock it without a PIN.
//
// With the secret the TPM makes a counter in its own memory (an NV index of the type
// counter), which only goes up; not even deleting it and making it again takes it
// back. The counter's name and the difference between its value and the number of
// the start are sealed together with the secret, so that another file or another NV
// index cannot stand in for them. A disk image that is put back brings the old store
// but not the old number, and generation.Begin refuses it.
//
// What passes on the bus to a discrete TPM is encrypted and authenticated under the
// TPM's storage key; whoever answers in its place at the first Store is not noticed.
package tpm

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"coinop.dev/core/keys"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
)

// PCRs is what a secret is sealed to unless the URI says otherwise: 7 is the state
// of Secure Boot (TCG PC Client Platform Firmware Profile, 3.3.4).
var PCRs = []uint{7}

// maxPCR is the last register that every platform has.
const maxPCR = 23

// A Home is a file that one TPM can open.
type Home struct {
	name string
	dev  device
	path string // of the sealed secret
	pcrs []uint
	pin  string // path of the PIN's file; empty: none

	mu    sync.Mutex
	bound *bound // what Load and Store have found out; nil before
}

// OpenURL opens tpm:/dev/tpmrm0?file=/path, or tpm:swtpm with socket=/path or
// tcp=host:port instead of a device. pcrs=0,7 lists the registers to seal to, and
// pin_file=/path has a PIN to seal with.
func OpenURL(u *url.URL) (secret.Home, error) {
	o, err := secret.Options(u, "file", "pcrs", "pin_file", "socket", "tcp")
	if err != nil {
		return nil, err
	}
	h := &Home{name: secret.Name(u), path: o["file"], pin: o["pin_file"], pcrs: PCRs}
	if h.path == "" {
		return nil, fmt.Errorf("secret %s: no file for the sealed secret; add ?file=/var/lib/coinop/key.tpm", h.name)
	}
	if list, given := o["pcrs"]; given {
		if h.pcrs, err = parsePCRs(list); err != nil {
			return nil, fmt.Errorf("secret %s: %w", h.name, err)
		}
	}
	if h.dev, err = parseDevice(u, o["socket"], o["tcp"]); err != nil {
		return nil, err
	}
	return h, nil
}

func parsePCRs(list string) (pcrs []uint, err error) {
	for _, text := range strings.Split(list, ",") {
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil || n > maxPCR || slices.Contains(pcrs, uint(n)) {
			return nil, fmt.Errorf("pcrs=%.40q; list registers from 0 to %d, each once, as in pcrs=0,7", list, maxPCR)
		}
		pcrs = append(pcrs, uint(n))
	}
	slices.Sort(pcrs)
	return pcrs, nil
}

// Load is secret.Home's.
func (h *Home) Load() (s secret.Seed, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, err := h.read()
	if err != nil {
		return s, h.named(err)
	}
	err = h.with(func(c *session) error {
		p, err := h.unseal(c, b)
		if err != nil {
			return err
		}
		defer clear(p.secret)
		h.bound = p.bound(b)
		s, err = secret.NewSeed(p.secret)
		return err
	})
	return s, h.named(err)
}

// Store is secret.Home's.
func (h *Home) Store(s secret.Seed) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := os.Lstat(h.path); err == nil {
		return h.named(fmt.Errorf("%s: %w", h.path, secret.ErrFull))
	}
	p := payload{secret: s.Reveal()}
	defer clear(p.secret)
	if _, err := secret.NewSeed(p.secret); err != nil {
		return h.named(err)
	}
	return h.named(h.with(func(c *session) error {
		handle, first, err := define(c, &p)
		if err != nil {
			return err
		}
		p.offset = -first // so that there has been no start
		b, err := h.seal(c, p, handle)
		if err == nil {
			err = secret.Create(h.path, b.marshal())
		}
		if err != nil {
			return errors.Join(err, undefine(c, handle))
		}
		h.bound = p.bound(b)
		return nil
	}))
}

// read reads the file of the sealed secret.
func (h *Home) read() (blob, error) {
	raw, err := secret.Read(h.path)
	if err != nil {
		return blob{}, err
	}
	b, err := parseBlob(raw)
	if err != nil {
		return b, fmt.Errorf("%s: %w", h.path, err)
	}
	return b, nil
}

// Counter is in the TPM. It belongs to the secret, and so to its machine.
func (h *Home) Counter(keys.Public) generation.Counter { return counter{h} }

// Close does nothing: the device is held only for the time of a call.
func (h *Home) Close() error { return nil }

func (h *Home) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("secret %s: %w", h.name, err)
}
