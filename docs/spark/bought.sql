-- The purchases that the other figures ask: orders that were not cancelled, a row each.
-- The day is that of the session's time zone. :basis is ordered, received or net; :start and
-- :end, the first day of the window and the one after its last, may be NULL.
WITH changes AS (
    SELECT order_id,
           bool_or(kind = 'cancelled') AS is_cancelled,
           coalesce(sum(amount) FILTER (WHERE kind = 'line-added'), 0) AS added,
           coalesce(sum(CASE kind WHEN 'allocated' THEN amount WHEN 'released' THEN -amount END), 0)
               AS received,
           greatest(sum(amount) FILTER (WHERE kind = 'returned'),
                    sum(amount) FILTER (WHERE kind = 'refunded'), 0) AS gone_back
      FROM purchase_changes GROUP BY order_id
), dated AS (
    SELECT customer_id,
           position,
           to_date(occurred_at) AS day,
           CAST(CASE :basis
               WHEN 'ordered' THEN amount + coalesce(added, 0)
               WHEN 'received' THEN coalesce(received, 0)
               WHEN 'net' THEN amount + coalesce(added - gone_back, 0)
           END AS DECIMAL(24, 4)) AS amount
      FROM purchases LEFT JOIN changes USING (order_id)
     WHERE currency = :currency AND NOT coalesce(is_cancelled, false)
)
SELECT *,
       (:start IS NULL OR day >= :start) AND (:end IS NULL OR day < :end) AS in_window
  FROM dated
