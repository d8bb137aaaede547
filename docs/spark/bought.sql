-- The purchases that the other figures ask: orders that were not cancelled, a row each.
-- The day is that of the session's time zone. :basis is ordered, received or net; :start and
-- :end, the first day of the window and the one after its last, and :as_of may be NULL.
WITH changes AS (
    SELECT order_id,
           bool_or(kind = 'cancelled') AS is_cancelled,
           coalesce(sum(amount) FILTER (WHERE kind = 'line-added'), 0) AS added,
           coalesce(sum(given) FILTER (WHERE NOT is_note), 0) AS received,
           coalesce(sum(given) FILTER (WHERE is_note), 0) AS noted,
           greatest(sum(amount) FILTER (WHERE kind = 'returned'),
                    sum(amount) FILTER (WHERE kind = 'refunded' AND NOT is_note), 0) AS gone_back
      FROM (SELECT *,
                   coalesce(payment_id IN (SELECT payment_id FROM credits), false) AS is_note,
                   CASE kind WHEN 'allocated' THEN amount WHEN 'released' THEN -amount END AS given
              FROM purchase_changes WHERE currency IS NULL OR currency = :currency)
     GROUP BY order_id
), sold AS (
    SELECT customer_id, position, occurred_at,
           CASE :basis
               WHEN 'ordered' THEN amount + coalesce(added, 0)
               WHEN 'received' THEN coalesce(received, 0)
               WHEN 'net' THEN amount + coalesce(added - gone_back - noted, 0)
           END AS amount
      FROM purchases LEFT JOIN changes USING (order_id)
     WHERE currency = :currency AND NOT coalesce(is_cancelled, false)
), used AS (
    SELECT payment_id, sum(CASE kind WHEN 'allocated' THEN amount ELSE -amount END) AS amount
      FROM purchase_changes WHERE kind IN ('allocated', 'released') GROUP BY payment_id
), rest AS (
    -- What of a credit note is for no order makes the purchase less that it followed, or the first.
    SELECT max_by(s.position, struct(
               s.occurred_at <= c.occurred_at,
               -abs(unix_micros(s.occurred_at) - unix_micros(c.occurred_at)),
               s.position
           )) AS position,
           any_value(c.amount) - coalesce(any_value(used.amount), 0) AS credit
      FROM credits c JOIN sold s USING (customer_id) LEFT JOIN used USING (payment_id)
     WHERE :basis = 'net' AND c.currency = :currency
       AND (:as_of IS NULL OR c.occurred_at < CAST(date_add(:as_of, 1) AS TIMESTAMP))
     GROUP BY payment_id
), credited AS (
    SELECT position, sum(credit) AS credit FROM rest GROUP BY position
), dated AS (
    SELECT customer_id, position, to_date(occurred_at) AS day,
           CAST(amount - coalesce(credit, 0) AS DECIMAL(24, 4)) AS amount
      FROM sold LEFT JOIN credited USING (position)
)
SELECT *,
       (:start IS NULL OR day >= :start) AND (:end IS NULL OR day < :end) AS in_window
  FROM dated
