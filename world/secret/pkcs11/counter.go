//go:build pkcs11 && cgo

package pkcs11

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"coinop.dev/core/keys"
)

// A counter is a data object in the token: the number of the last start, and the key
// of the machine that it belongs to.
type counter struct {
	h    *Home
	node keys.Public
}

const (
	counterSize = 8 + len(keys.Public{})
	// maxObjects bounds what starts that were cut off leave behind: one each, at most,
	// until the next start.
	maxObjects = 16
)

// String is the home's URI.
func (c *counter) String() string { return c.h.name }

func (c *counter) label() string { return c.h.Object + "/generation" }

func (c *counter) value(n uint64) *pkcs11.Attribute {
	b := binary.BigEndian.AppendUint64(nil, n)
	return pkcs11.NewAttribute(pkcs11.CKA_VALUE, append(b, c.node[:]...))
}

// Read returns 0 if there is no number yet.
func (c *counter) Read() (uint64, error) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	_, n, err := c.find()
	return n, c.h.named(err)
}

// find returns all objects of the counter and the highest of their numbers.
func (c *counter) find() (objects []pkcs11.ObjectHandle, n uint64, err error) {
	objects, err = c.h.find(maxObjects, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA), pkcs11.NewAttribute(pkcs11.CKA_LABEL, c.label()))
	if err != nil {
		return nil, 0, err
	}
	if len(objects) == maxObjects {
		return nil, 0, fmt.Errorf("the token has %d objects %q or more; delete all but the one with the highest number", maxObjects, c.label())
	}
	for _, object := range objects {
		m, err := c.number(object)
		if err != nil {
			return nil, 0, err
		}
		n = max(n, m)
	}
	return objects, n, nil
}

func (c *counter) number(object pkcs11.ObjectHandle) (uint64, error) {
	values, err := c.h.module.GetAttributeValue(c.h.session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err != nil {
		return 0, explain("read the counter", err)
	}
	b := values[0].Value
	if len(b) != counterSize {
		return 0, fmt.Errorf("object %q has %d bytes; a counter has %d", c.label(), len(b), counterSize)
	}
	if node := keys.Public(b[8:]); node != c.node {
		return 0, fmt.Errorf("object %q belongs to the machine with key %s, and this one has %s; give each machine a key object of its own", c.label(), node, c.node)
	}
	return binary.BigEndian.Uint64(b), nil
}

// Write raises the number to n. The value of an object does not change (PKCS #11
// 2.40, 4.5), so a new one is made, and then the old one destroyed.
func (c *counter) Write(n uint64) error {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	old, now, err := c.find()
	if err == nil && n < now {
		err = fmt.Errorf("the counter is at start %d and does not go back to %d", now, n)
	}
	if err != nil || len(old) > 0 && n == now {
		return c.h.named(err)
	}
	_, err = c.h.module.CreateObject(c.h.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, c.label()),
		pkcs11.NewAttribute(pkcs11.CKA_APPLICATION, "coinop"),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		c.value(n),
	})
	for _, object := range old {
		if err == nil {
			err = c.h.module.DestroyObject(c.h.session, object)
		}
	}
	return c.h.named(explain("write the counter", err))
}

// ErrPin means that the token did not take the PIN.
var ErrPin = errors.New("the token refuses the PIN")

// explain says what the commonest refusals of a token mean, and what to do.
func explain(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case is(err, pkcs11.CKR_PIN_INCORRECT), is(err, pkcs11.CKR_PIN_INVALID), is(err, pkcs11.CKR_PIN_LEN_RANGE):
		err = fmt.Errorf("%w; correct the file that pin-source= names, a few wrong ones lock the token", ErrPin)
	case is(err, pkcs11.CKR_PIN_LOCKED):
		err = fmt.Errorf("%w: it is locked after too many wrong ones; have the security officer set a new one", ErrPin)
	case is(err, pkcs11.CKR_TOKEN_NOT_PRESENT), is(err, pkcs11.CKR_DEVICE_REMOVED):
		err = errors.New("the token was taken out; plug it in and start again")
	}
	return fmt.Errorf("pkcs11: %s: %w", doing, err)
}

func is(err error, code uint) bool { return errors.Is(err, pkcs11.Error(code)) }
