package puller

import "context"

type Plan struct{}

func (p *Puller) Plan(context.Context, PrewarmRequest) (Plan, error) { return Plan{}, nil }
