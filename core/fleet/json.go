package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// MaxJSON bounds a message in JSON, in bytes.
const MaxJSON = 4096

// commandJSON is a Command for a device that reads JSON.
type commandJSON struct {
	Gateway int           `json:"gateway,omitempty"`
	Device  string        `json:"device"`
	Seq     uint64        `json:"seq"`
	Order   money.OrderID `json:"order"`
	Verb    string        `json:"verb"`
	Item    string        `json:"item"`
	Units   uint64        `json:"units"`
	Until   step.Time     `json:"until_ms,omitempty"`
	Test    bool          `json:"test,omitempty"`
	Sig     hexBytes      `json:"sig"`
}

// ackJSON is an Ack of one that writes it.
type ackJSON struct {
	Gateway int           `json:"gateway,omitempty"`
	Device  string        `json:"device"`
	Seq     uint64        `json:"seq"`
	Order   money.OrderID `json:"order"`
	Counter uint64        `json:"counter"`
	OK      bool          `json:"ok"`
	Unknown bool          `json:"unknown,omitempty"`
	Why     string        `json:"why,omitempty"`
	Reading hexBytes      `json:"reading,omitempty"`
	Sig     hexBytes      `json:"sig"`
}

// MarshalJSON writes a command for a device that reads JSON.
func (m Command) MarshalJSON() ([]byte, error) {
	return json.Marshal(commandJSON{m.Gateway, m.Device, m.Seq, m.Order, m.Verb, m.Item, m.Units, m.Until, m.Test, m.Sig})
}

// UnmarshalJSON reads what MarshalJSON writes, and checks it as Decode does.
func (m *Command) UnmarshalJSON(b []byte) error {
	var j commandJSON
	if err := readJSON(b, &j); err != nil {
		return fmt.Errorf("command: %w", err)
	}
	c := Command{j.Gateway, j.Device, j.Seq, j.Order, j.Verb, j.Item, j.Units, j.Until, j.Test, j.Sig}
	if err := c.check(); err != nil {
		return fmt.Errorf("command: %w", err)
	}
	*m = c
	return nil
}

// MarshalJSON writes an acknowledgement for people, and for devices that write
// JSON.
func (m Ack) MarshalJSON() ([]byte, error) {
	return json.Marshal(ackJSON{m.Gateway, m.Device, m.Seq, m.Order, m.Counter, m.OK, m.Unknown, m.Why, m.Reading, m.Sig})
}

// UnmarshalJSON reads what MarshalJSON writes, and checks it as Decode does.
func (m *Ack) UnmarshalJSON(b []byte) error {
	var j ackJSON
	if err := readJSON(b, &j); err != nil {
		return fmt.Errorf("acknowledgement: %w", err)
	}
	a := Ack{j.Gateway, j.Device, j.Seq, j.Order, j.Counter, j.OK, j.Unknown, j.Why, j.Reading, j.Sig}
	if err := a.check(); err != nil {
		return fmt.Errorf("acknowledgement: %w", err)
	}
	*m = a
	return nil
}

// readJSON is strict: a field that nobody knows is a mistake of whoever sends it,
// and should be found on the first day.
func readJSON(b []byte, into any) error {
	if len(b) > MaxJSON {
		return fmt.Errorf("it has %d bytes; the limit is %d", len(b), MaxJSON)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the object")
	}
	return nil
}
