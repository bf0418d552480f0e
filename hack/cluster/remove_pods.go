package main

import (
	"context"
	"errors"
	"time"

	cri "k8s.io/cri-client/pkg"
)

// removePods stops and removes every pod sandbox of a container runtime, so that the runtime itself takes
// back what it made outside its own folder: network namespaces, addresses, port forwards, mounts.
func removePods(ctx context.Context, socket string) error {
	runtime, err := cri.NewRemoteRuntimeService(ctx, "unix://"+socket, 20*time.Second, nil, false)
	if err != nil {
		return err
	}
	sandboxes, err := runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return err
	}
	var failures []error
	for _, sandbox := range sandboxes {
		failures = append(failures, runtime.StopPodSandbox(ctx, sandbox.Id), runtime.RemovePodSandbox(ctx, sandbox.Id))
	}
	return errors.Join(failures...)
}
