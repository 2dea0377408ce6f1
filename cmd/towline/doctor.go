package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/doctor"
	"github.com/towline/towline/cmd/towline/render"
)

func newDoctor(f *command.Flags) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor [REGISTRY...]",
		Short: "Look for what keeps images from being pulled, and say what mends it",
		Long: "Check the daemon's socket, the daemon, its engine, the engine's disk, the\n" +
			"accelerator, registries (docker.io if none is named) and the clock. Each fault has\n" +
			"what mends it. It changes nothing. Registries are called from this machine. The\n" +
			"exit code is 1 if a check has failed.",
		Example: "  towline doctor\n" +
			"  towline doctor ghcr.io registry.example.com --json",
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, registries []string) error {
			if len(registries) == 0 {
				registries = []string{"docker.io"}
			}
			command.SetFallbackRoots()
			transport := http.DefaultTransport.(*http.Transport).Clone()
			defer transport.CloseIdleConnections()
			found := doctor.Run(ctx, doctor.Options{Client: c, Host: f.Host, Registries: registries, HTTP: &http.Client{Transport: transport}, Now: time.Now})
			var err error
			for _, one := range found {
				if one.State == doctor.Failed {
					err = errors.New("a check has failed")
				}
			}
			switch {
			case f.JSON:
				return errors.Join(err, render.NewJSON(cmd.OutOrStdout()).Encode(found))
			case !f.Quiet || err != nil:
				doctor.Write(cmd.OutOrStdout(), found)
			}
			return err
		}),
	}
}
