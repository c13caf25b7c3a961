package daemon

import "testing"

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
