//go:build !omit_gateway

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// gatewayCommands ask a gateway that coinop serve runs.
func gatewayCommands(u *ui) []*cobra.Command {
	return []*cobra.Command{
		deviceCommand(u), serviceCommand(u), ordersCommand(u), statementCommand(u), exportCommand(u),
		eventsCommand(u), webhookCommand(u), credentialCommand(u), consoleCommand(u),
	}
}

// A family is a command with others under it, which ask one running gateway.
type family struct {
	*cobra.Command
	u    *ui
	path string
}

func (u *ui) family(c *cobra.Command) *family {
	f := &family{Command: c, u: u}
	f.PersistentFlags().StringVarP(&f.path, "config", "c", "coinop.toml", "the machine's TOML file")
	return f
}

// gateway finds the running one.
func (f *family) gateway() (*running, error) {
	config, err := readConfig(f.path)
	if err != nil {
		return nil, err
	}
	return config.running()
}

// add adds a command; what comes after its name in use are its arguments.
func (f *family) add(use, short string, do func(ctx context.Context, r *running, args []string) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	f.asks(c, do)
	f.AddCommand(c)
	return c
}

// asks makes a command one that asks the gateway.
func (f *family) asks(c *cobra.Command, do func(ctx context.Context, r *running, args []string) error) {
	_, what, _ := strings.Cut(c.Use, " ")
	c.Args = func(c *cobra.Command, args []string) error {
		least, most := strings.Count(what, "<"), strings.Count(what, "<")+strings.Count(what, "[")
		if len(args) < least || len(args) > most {
			return usage{errors.New(strings.TrimSpace("write " + c.CommandPath() + " " + what))}
		}
		return nil
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := f.gateway()
		if err != nil {
			return err
		}
		return do(cmd.Context(), r, args)
	}
}

// columns writes rows under a head, as wide as they need.
func columns(w io.Writer, head string, rows func(row func(cells ...any))) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(head, " ", "\t"))
	rows(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			text := clean(fmt.Sprint(c))
			fmt.Fprint(t, cmp.Or(text, "-"))
		}
		fmt.Fprintln(t)
	})
	t.Flush()
}

// when is a time for people, where they are.
func when(t step.Time) string {
	if t == 0 {
		return ""
	}
	return time.UnixMilli(int64(t)).Local().Format(time.DateTime)
}

// amount is money for people; nothing is "".
func amount(a money.Amount) string {
	if a == 0 {
		return ""
	}
	return a.String()
}

// duration reads 90s, 24h, or 30d.
func duration(text string) (step.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int64
		if _, err := fmt.Sscanf(days, "%d", &n); err == nil && n > 0 && n <= maxDays && fmt.Sprint(n) == days {
			return step.Time(n) * step.Day, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxDays*24*time.Hour {
		return 0, usage{fmt.Errorf("%.20q is not a time such as 90s, 24h or 30d", text)}
	}
	return step.Time(d.Milliseconds()), nil
}

// maxDays bounds how long something may be good.
const maxDays = 36500

// later is the Unix time in that many seconds, minutes, days; "" is never, 0.
func later(text string) (step.Time, error) {
	if text == "" {
		return 0, nil
	}
	d, err := duration(text)
	return step.Time(time.Now().UnixMilli()) + d, err
}
