// Package redis stands for the client of that name, of which the lab's registry has no
// use: it has no Redis. It declares what the registry's code names.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"time"
)

// Nil is the error of a key that is not there.
var Nil = errors.New("redis: nil")

var errNone = errors.New("redis: the lab's registry has none")

// UniversalOptions are the options of a client.
type UniversalOptions struct {
	Addrs                                                              []string
	ClientName, Username, Password, SentinelUsername, SentinelPassword string
	MasterName, IdentitySuffix                                         string
	DB, Protocol, MaxRetries, MaxRedirects                             int
	PoolSize, MinIdleConns, MaxIdleConns, MaxActiveConns               int
	MinRetryBackoff, MaxRetryBackoff                                   time.Duration
	DialTimeout, ReadTimeout, WriteTimeout, PoolTimeout                time.Duration
	ConnMaxIdleTime, ConnMaxLifetime                                   time.Duration
	ContextTimeoutEnabled, PoolFIFO, ReadOnly, RouteByLatency          bool
	RouteRandomly, DisableIdentity, UnstableResp3                      bool
	TLSConfig                                                          *tls.Config
	OnConnect                                                          func(context.Context, *Conn) error
}

// UniversalClient is a client.
type UniversalClient = *Client

// NewUniversalClient returns a client, all commands of which fail.
func NewUniversalClient(*UniversalOptions) UniversalClient { return &Client{} }

type (
	// Client is a client, all commands of which fail.
	Client struct{}
	// Conn is a connection of a client.
	Conn = Client
	// PoolStats counts connections.
	PoolStats struct{ TotalConns, IdleConns uint32 }
	// Answer is what a command has brought: nothing.
	Answer[T any] struct{}
)

func (Answer[T]) Err() error         { return errNone }
func (Answer[T]) Result() (T, error) { var none T; return none, errNone }

func (*Client) PoolStats() *PoolStats                                    { return &PoolStats{} }
func (*Client) Ping(context.Context) Answer[string]                      { return Answer[string]{} }
func (*Client) Del(context.Context, ...string) Answer[int64]             { return Answer[int64]{} }
func (*Client) HDel(context.Context, string, ...string) Answer[int64]    { return Answer[int64]{} }
func (*Client) HGet(context.Context, string, string) Answer[string]      { return Answer[string]{} }
func (*Client) HMGet(context.Context, string, ...string) Answer[[]any]   { return Answer[[]any]{} }
func (*Client) HMSet(context.Context, string, ...any) Answer[bool]       { return Answer[bool]{} }
func (*Client) HSet(context.Context, string, ...any) Answer[int64]       { return Answer[int64]{} }
func (*Client) HSetNX(context.Context, string, string, any) Answer[bool] { return Answer[bool]{} }
func (*Client) SAdd(context.Context, string, ...any) Answer[int64]       { return Answer[int64]{} }
func (*Client) SIsMember(context.Context, string, any) Answer[bool]      { return Answer[bool]{} }
func (*Client) SRem(context.Context, string, ...any) Answer[int64]       { return Answer[int64]{} }
func (c *Client) TxPipeline() *Client                                    { return c }
func (*Client) Exec(context.Context) ([]Answer[any], error)              { return nil, errNone }
