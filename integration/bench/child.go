package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// roles are what this program is when it starts itself anew, so that what serves
// and what loads have a process each, whose use of the processors can be told
// from that of others. A role reads its task, a line of JSON, and then orders, a
// line each; at their end it is to end too. It answers with a line of JSON each.
func roles() map[string]func(orders *bufio.Reader, answers *json.Encoder) error {
	return map[string]func(*bufio.Reader, *json.Encoder) error{
		"readers": readersRole,
		"naive":   naiveRole,
		"replay":  replayRole,
		"decode":  decodeRole,
	}
}

// act plays a role, and returns an exit code.
func act(role func(*bufio.Reader, *json.Encoder) error) int {
	if err := role(bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// task reads the first line.
func task(orders *bufio.Reader, v any) error {
	line, err := orders.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// untilEnd reads orders to their end.
func untilEnd(orders *bufio.Reader) { io.Copy(io.Discard, orders) }

// child is a process that plays a role.
type child struct {
	role    string
	cmd     *exec.Cmd
	orders  io.WriteCloser
	answers *json.Decoder
}

func startChild(ctx context.Context, role string, task any, env ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{role: role, cmd: exec.CommandContext(ctx, self, role)}
	c.cmd.Stderr = os.Stderr
	c.cmd.Env = append(os.Environ(), env...)
	if c.orders, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.answers = json.NewDecoder(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := json.Marshal(task)
	if err == nil {
		_, err = c.orders.Write(append(line, '\n'))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", role, err), c.end())
	}
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) order(what string) error {
	_, err := io.WriteString(c.orders, what+"\n")
	return err
}

// answer waits for one.
func (c *child) answer(v any) error {
	if err := c.answers.Decode(v); err != nil {
		return fmt.Errorf("%s: %w", c.role, err)
	}
	return nil
}

// end has the process end, and waits for that.
func (c *child) end() error {
	c.orders.Close()
	late := time.AfterFunc(10*time.Second, func() { c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", c.role, err)
	}
	return nil
}
