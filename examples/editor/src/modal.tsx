/// <reference lib="dom" />
// @ts-types="@types/react"
import type { ReactNode } from "react";
import { Dialog, Heading, Modal, ModalOverlay } from "react-aria-components";

/** A dialog in front of the page. */
export function Window({ title, role = "dialog", children }: {
  title: string;
  role?: "dialog" | "alertdialog";
  children: (close: () => void) => ReactNode;
}) {
  return (
    <ModalOverlay className="overlay" isDismissable={role === "dialog"}>
      <Modal className="modal">
        <Dialog role={role} className="dialog">
          {({ close }) => (
            <>
              <Heading slot="title">{title}</Heading>
              {children(close)}
            </>
          )}
        </Dialog>
      </Modal>
    </ModalOverlay>
  );
}
