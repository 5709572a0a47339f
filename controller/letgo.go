package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// letPoolsGo is what --let-pools-go does: it lets every pool be deleted although it is in use, so that nothing waits for a
// controller that is no longer there. One that still runs sees the annotation and leaves the pools alone. Services keep
// their addresses.
func letPoolsGo(ctx context.Context, cfg *rest.Config) error {
	scheme := runtime.NewScheme()
	if err := v1beta1.AddToScheme(scheme); err != nil {
		return fmt.Errorf("register kinds: %w", err)
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	var pools v1beta1.IPAddressPoolList
	if err := c.List(ctx, &pools); err != nil {
		if meta.IsNoMatchError(err) {
			return nil // the definitions are gone, and all pools with them
		}
		return fmt.Errorf("list IPAddressPools: %w", err)
	}
	var errs []error
	for _, pool := range pools.Items {
		errs = append(errs, letGo(ctx, c, pool))
	}
	return errors.Join(errs...)
}

func letGo(ctx context.Context, c client.Client, pool v1beta1.IPAddressPool) error {
	ours := func(f string) bool { return f == v1beta1.FinalizerPoolInUse }
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{config.DeleteInUse: "true"},
		"finalizers":  slices.DeleteFunc(slices.Clone(pool.Finalizers), ours),
	}})
	if err != nil {
		return err
	}
	err = c.Patch(ctx, &pool, client.RawPatch(types.MergePatchType, body), client.FieldOwner(fieldManager))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("let IPAddressPool %s go: %w", pool.Name, err)
	}
	return nil
}
