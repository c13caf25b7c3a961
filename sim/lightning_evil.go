package sim

import (
	"math/rand/v2"

	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

type adversary struct{ l *Lightning }

func (l *Lightning) newAdversary(r *rand.Rand) *adversary { return &adversary{l} }

func (a *adversary) honest() bool                    { return true }
func (a *adversary) wrap(core drive.Core) drive.Core { return core }
func (a *adversary) plan(begin, rough step.Time)     {}
func (l *Lightning) survived() error                 { return nil }
