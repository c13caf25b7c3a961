package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"coinop.dev/core/money"
	"coinop.dev/core/spend"
)

// The rules of the command line. Results go to stdout, as text on a terminal
// and as JSON with --json or into a pipe. Everything else goes to stderr: a
// failure is one line, "coinop: " and the error, lower case, no full stop, and
// then a hint if there is one; with --json it is an object on stderr. Exit codes say what
// a script may do next.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitConnect  = 3
	exitAuth     = 4
	exitNotFound = 5
	exitRefused  = 6 // by a limit: nothing was sent
	exitUnknown  = 7 // the payment may have been made: ask again with the same order
)

// ui is where a command reads and writes.
type ui struct {
	in       io.Reader
	out, err io.Writer
	json     bool
	verbose  bool
}

// run is the program without its process.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	u := &ui{in: in, out: out, err: errs}
	root := u.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	if u.json {
		json.NewEncoder(errs).Encode(errorObject(err, code))
		return code
	}
	fmt.Fprintf(errs, "coinop: %v\n", err)
	if hint := hint(err, code); hint != "" {
		fmt.Fprintf(errs, "  %s\n", hint)
	}
	return code
}

func (u *ui) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "coinop",
		Short:         "Money for machines",
		Long:          "coinop lets machines pay each other: fractions of a cent, thousands a second, over channels settled on Bitcoin.",
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.PersistentFlags().BoolVar(&u.json, "json", false, "print JSON")
	root.PersistentFlags().BoolVarP(&u.verbose, "verbose", "v", false, "log what happens, to stderr")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage{err} })
	for _, c := range []*cobra.Command{
		demoCommand(u), serveCommand(u), payCommand(u), getCommand(u), readCommand(u), chargeCommand(u), checkCommand(u), channelCommand(u), restoreCommand(u),
		configCommand(u), doctorCommand(u), receiptCommand(u), keyCommand(u), walletCommand(u), accountCommand(u), railsCommand(u), chainCommand(u), ledgerCommand(u), simCommand(u), labCommand(u), lightClientCommand(u), versionCommand(u), manCommand(u),
	} {
		if c != nil { // a part that this build leaves out
			root.AddCommand(c)
		}
	}
	root.AddCommand(gatewayCommands(u)...)
	return root
}

// usage marks an error as a mistake on the command line.
type usage struct{ error }

func (u usage) Unwrap() error { return u.error }

// noArgs is cobra.NoArgs with our exit code.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage{fmt.Errorf("%s takes no arguments, and got %q", c.CommandPath(), args[0])}
	}
	return nil
}

// exit gives an error an exit code that its kind does not say.
type exit struct {
	error
	code int
}

func (e exit) Unwrap() error { return e.error }

func exitCode(err error) int {
	var u usage
	var e exit
	var known *money.Error
	switch {
	case errors.As(err, &u):
		return exitUsage
	case errors.As(err, &e):
		return e.code
	case errors.As(err, &known):
		switch known.Kind {
		case money.Refused:
			return exitRefused
		case money.Pending:
			return exitUnknown
		case money.Invalid:
			return exitUsage
		}
	}
	return exitFailed
}

func hint(err error, code int) string {
	var refusal *spend.Refusal
	switch {
	case errors.As(err, &refusal):
		return "the limits are in the config file's [limits]"
	case code == exitUsage:
		return "see coinop --help"
	case code == exitUnknown:
		return "it may have been paid; pay again with the same --order and nothing is paid twice"
	}
	return ""
}

func errorObject(err error, code int) map[string]any {
	o := map[string]any{"error": err.Error(), "exit": code}
	var known *money.Error
	if errors.As(err, &known) {
		o["kind"] = known.Kind.Error()
	}
	var refusal *spend.Refusal
	if errors.As(err, &refusal) {
		o["refusal"] = refusal
	}
	return map[string]any{"error": o}
}

// print writes one JSON object on a line.
func (u *ui) print(v any) error {
	e := json.NewEncoder(u.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// terminal reports whether a person is likely to read, or to write, a stream.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// live rewrites the terminal's last line, cut to its width.
func (u *ui) live(line string) {
	width := 80
	if f, ok := u.err.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 1 {
			width = w
		}
	}
	cut := []rune(line)
	fmt.Fprint(u.err, "\r\x1b[K", string(cut[:min(len(cut), width-1)]))
}

// show prints v as JSON, or calls text if a person reads.
func (u *ui) show(v any, text func(io.Writer)) error {
	if u.json || !terminal(u.out) {
		return u.print(v)
	}
	text(u.out)
	return nil
}

// log is where a machine writes what happens.
func (u *ui) log(who string) *slog.Logger {
	return u.logAt(who, slog.LevelWarn)
}

// logAt writes from a level on; all of it if that is asked for.
func (u *ui) logAt(who string, level slog.Level) *slog.Logger {
	if u.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(u.err, &slog.HandlerOptions{Level: level})).With("machine", who)
}
