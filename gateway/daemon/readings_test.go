package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"coinop.dev"
)

// A door uses the bytes of a reading again.
func TestAReadingIsKept(t *testing.T) {
	var r readings
	b := []byte("21.5 C")
	r.put("probe", "meter", b)
	copy(b, "??????")
	for _, name := range []string{"probe", "probe/meter"} {
		if got, err := r.Read(t.Context(), name, 1); err != nil || string(got) != "21.5 C" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// A service has a name of its own, and its device another.
func TestASessionReadsTheDeviceOfItsService(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coinop.toml")
	config := `
version = 1
name = "station"
data = "data"
rails = ["fake:"]

[[sell]]
item = "temperature"
unit = "reading"
price = "3 sat"
from = "data:device:probe/meter"

[[sell]]
item = "water"
unit = "cup"
price = "3 sat"
from = "device:tap"
`
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := coinop.ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(t.Context(), Options{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.readings.put("probe", "meter", []byte("21.5 C"))
	if got, err := (coapReadings{d}).Read(t.Context(), "temperature", 1); err != nil || string(got) != "21.5 C" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := (coapReadings{d}).Read(t.Context(), "water", 1); err == nil {
		t.Errorf("water is a reading: %q", got)
	}
}
