package coinop_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coinop.dev"
	_ "coinop.dev/rail/all"
)

// The reference is a config that works, and says something of every key that there
// is.
func TestReference(t *testing.T) {
	c, err := coinop.ParseConfig([]byte(coinop.Reference))
	if err != nil {
		t.Fatal(err)
	}
	c.Rates[0].URL = "" // it shows both, and one of them must be chosen
	c.Sell[0].Dynamic = ""
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	missing := coinop.UndocumentedKeys()
	if len(missing) > 0 {
		t.Errorf("reference.toml does not have %s", strings.Join(missing, ", "))
	}
	for _, k := range coinop.Keys() {
		if k.Doc == "" || k.Example == "" || k.Type == "" {
			t.Errorf("%+v", k)
		}
		if _, ok := c.Value(k.Name); ok == strings.Contains(k.Name, "[]") {
			t.Errorf("Value(%s): %v", k.Name, ok)
		}
	}
}

// env is an environment for a test.
func env(vars map[string]string) func(string) (string, bool) {
	return func(key string) (string, bool) { v, ok := vars[key]; return v, ok }
}

// A container has no file of its own: everything that is one value comes from its
// environment, and what is secret from files that it mounts.
func TestEverythingFromTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	uri := filepath.Join(dir, "uri")
	if err := os.WriteFile(uri, []byte("postgres://coinop:hunter2@db/coinop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := coinop.Config{Store: "mem:"}
	err := c.Environment(env(map[string]string{
		"COINOP_STORE_FILE": uri, "COINOP_RAILS": "oneway: payword:", "COINOP_LIMITS_ORDER": "10 sat",
		"COINOP_LIMITS_PERIOD": "daily", "COINOP_LIMITS_PER_MINUTE": "7", "COINOP_MQTT_LISTEN": "127.0.0.1:1883",
		"COINOP_MQTT_TLS": "true", "COINOP_MQTT_PASSWORD_FILE": "/run/secrets/mqtt", "COINOP_TLS_KEY": "k.pem",
		"COINOP_HTTP": "127.0.0.1:8402", "COINOP_INSECURE_HTTP": "1", "COINOP_KEY": "not a URI but the secret itself",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if c.Store != "postgres://coinop:hunter2@db/coinop" || !slices.Equal(c.Rails, []string{"oneway:", "payword:"}) ||
		c.Limits.Order != 10*coinop.Sat || c.Limits.Period.String() != "daily" || c.Limits.PerMinute != 7 ||
		c.MQTT.Listen != "127.0.0.1:1883" || !c.MQTT.TLS || c.MQTT.Password != "/run/secrets/mqtt" || c.TLS.Key != "k.pem" ||
		c.HTTP != "127.0.0.1:8402" || !c.InsecureHTTP || c.Key != "" {
		t.Errorf("%+v", c)
	}
}

// What cannot be meant is refused, and the variable is named.
func TestBadEnvironment(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pem := write("pem", "-----BEGIN\nCERT\n")
	for what, c := range map[string]struct {
		vars map[string]string
		want string
	}{
		"a table":            {map[string]string{"COINOP_LIMITS": "none"}, "COINOP_LIMITS cannot be set"},
		"a list of tables":   {map[string]string{"COINOP_SELL": "water"}, "COINOP_SELL cannot be set"},
		"no unit":            {map[string]string{"COINOP_LIMITS_ORDER": "10"}, "COINOP_LIMITS_ORDER: amount"},
		"no number":          {map[string]string{"COINOP_LIMITS_PER_MINUTE": "many"}, `"many" is not a number`},
		"no boolean":         {map[string]string{"COINOP_MQTT_TLS": "perhaps"}, "COINOP_MQTT_TLS"},
		"both":               {map[string]string{"COINOP_STORE": "mem:", "COINOP_STORE_FILE": pem}, "COINOP_STORE_FILE is set too"},
		"no file":            {map[string]string{"COINOP_STORE_FILE": dir + "/none"}, "COINOP_STORE_FILE"},
		"what the key names": {map[string]string{"COINOP_TLS_CERT_FILE": pem}, "more than one line"},
		"a file without end": {map[string]string{"COINOP_STORE_FILE": "/dev/zero"}, "more than 65536 bytes"},
	} {
		err := new(coinop.Config).Environment(env(c.vars))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestUnknownKeysAreGuessedAt(t *testing.T) {
	for name, want := range map[string]string{
		"lmits.order": "limits.order", "mqtt.lisen": "mqtt.listen", "broker": "mqtt.broker",
		"sell[0].pice": "sell[].price", "tls": "tls.cert", "nothing.like.it": "schema lists",
	} {
		if _, err := coinop.FindKey(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"sell[water].price", "rails", "mqtt.tls"} {
		if _, err := coinop.FindKey(name); err != nil {
			t.Error(err)
		}
	}
	_, err := coinop.ParseConfig([]byte("version = 1\n[[sell]]\nitem = \"x\"\npirce = \"1 sat\"\n"))
	if err == nil || !strings.Contains(err.Error(), "is it sell[].price?") {
		t.Error(err)
	}
}
